import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runTool, type Tool } from '../../backends/tool.ts'
import { eventually, type Teardown, temporaryDirectory } from '../server.ts'

const env = { PATH: '/usr/bin:/bin' }
const { signal } = new AbortController()

/** Runs a script of the shell; the program is called `tool`. */
async function scripts(t: Teardown) {
  const directory = await temporaryDirectory(t)
  const file = join(directory, 'tool')
  return {
    directory,
    start(script: string, { timeoutSeconds = 20, ...more }: Partial<Tool> & Limits = {}, abort = signal) {
      writeFileSync(file, `#!/bin/sh\n${script}\n`)
      chmodSync(file, 0o755)
      return runTool({ file, args: [], env, ...more }, { timeoutSeconds, signal: abort })
    },
  }
}

interface Limits {
  timeoutSeconds?: number
}

/** Whether a process is there, and no zombie. */
function isAlive(pidFile: string): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${readFileSync(pidFile, 'utf8').trim()}/status`, 'utf8'))
  } catch {
    return false
  }
}

t.test('what a program is told and says', async (t) => {
  const { start, directory } = await scripts(t)
  const said = await start('cat; echo "$1|$SECRET|$NAME" >&2; pwd; exit 3', {
    args: ["a b'; $(x)"],
    env: { ...env, NAME: 'x' },
    cwd: directory,
    input: 'told\n',
  })
  t.same(said, { status: 3, stdout: `told\n${directory}\n`, stderr: "a b'; $(x)||x" })
  process.env.SECRET = 'secret'
  t.teardown(() => delete process.env.SECRET)
  t.equal((await start('echo "<$SECRET>"')).stdout, '<>\n', 'it inherits nothing')
  t.equal((await start('exit 0', { input: 'x'.repeat(10_000_000) })).status, 0, 'it need not read')
  const { stderr } = await start('yes | head -c 100000000 >&2; echo last >&2')
  t.ok(stderr.length <= 4096, 'only the end of its messages is kept')
  t.match(stderr, /y\nlast$/)
})

t.test('a program that cannot be started', async (t) => {
  const { directory } = await scripts(t)
  const failsWith = (program: Partial<Tool>, message: RegExp) =>
    t.rejects(runTool({ file: directory, args: [], env, ...program }, { timeoutSeconds: 5, signal }), {
      code: 'storage_tool_failed',
      message,
    })
  await failsWith({ file: join(directory, 'missing') }, /^missing cannot be started \(ENOENT\)$/)
  await failsWith({ file: 'no-such-program' }, /^no-such-program cannot be started \(ENOENT\)$/)
  await failsWith({}, /cannot be started \(EACCES\)/)
  writeFileSync(join(directory, 'text'), '#!/no/interpreter\n', { mode: 0o755 })
  await failsWith({ file: join(directory, 'text') }, /cannot be started \(ENOENT\)/)
  await failsWith({ file: '/bin/true', args: ['x'.repeat(5_000_000)] }, /cannot be started \(E2BIG\)/)
  await failsWith({ file: '/bin/true', args: ['\0'] }, /cannot be started \(ERR_INVALID_ARG_VALUE\)/)
})

t.test('a program that does not end by itself', async (t) => {
  const { start, directory } = await scripts(t)
  const pids = [join(directory, 'pid'), join(directory, 'child-pid')]
  const hanging = `echo $$ > ${pids[0]}; sleep 600 & echo $! > ${pids[1]}; wait`
  const gone = () => eventually(() => pids.every((file) => existsSync(file) && !isAlive(file)))

  await t.rejects(start(hanging, { timeoutSeconds: 0.3 }), {
    code: 'storage_tool_failed',
    message: /tool did not end within 0.3 s/,
  })
  await gone()

  await t.rejects(start(`trap '' TERM; ${hanging}`, { timeoutSeconds: 0.3 }), { message: /did not end within/ })
  await gone()

  const aborting = new AbortController()
  const running = start(hanging, {}, aborting.signal)
  await eventually(() => existsSync(pids[1]!) && isAlive(pids[1]!))
  aborting.abort(new Error('the client went away'))
  await t.rejects(running, { message: 'the client went away' })
  await gone()
  await t.rejects(start('touch started', { cwd: directory }, aborting.signal), { message: 'the client went away' })
  t.notOk(existsSync(join(directory, 'started')), 'nothing is started for nobody')

  await t.rejects(start('kill -9 $$'), { code: 'storage_tool_failed', message: /tool was ended by SIGKILL/ })
  await t.rejects(start(`echo $$ > ${pids[0]}; exec yes`), { message: /tool wrote more than 1048576 bytes/ })
  await gone()
  await t.rejects(start('head -c 100000000 /dev/zero'), { message: /tool wrote more than 1048576 bytes/ })
})

t.test('what a program leaves in the background does not hold up its answer', async (t) => {
  const { start, directory } = await scripts(t)
  const pid = join(directory, 'pid')
  t.teardown(() => process.kill(Number(readFileSync(pid, 'utf8'))))
  const { status, stdout } = await start(`setsid sleep 600 & echo $! > ${pid}; echo done`)
  t.same([status, stdout], [0, 'done\n'])
})

t.test('some run at once, and the others in their turn', async (t) => {
  const { start, directory } = await scripts(t)
  const script = 'mkdir "$$"; ls -d [0-9]* | wc -l; sleep 0.2; rmdir "$$"'
  await start('exit 0')
  const runs = Array.from({ length: 40 }, () => start(script, { cwd: directory }))
  const aborted = start(script, { cwd: directory }, AbortSignal.timeout(10))
  await t.rejects(aborted, { name: 'TimeoutError' }, 'one that waits can be given up')
  const counts = (await Promise.all(runs)).map(({ stdout }) => Number(stdout))
  t.ok(Math.max(...counts) <= 32, `${Math.max(...counts)} at once`)
})
