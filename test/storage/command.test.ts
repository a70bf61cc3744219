import { randomUUID } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import type { Backend } from '../../backends/backend.ts'
import { command } from '../../backends/command/index.ts'
import type { Commands } from '../../backends/command/options.ts'
import { call } from '../posix.ts'
import { type Teardown, temporaryDirectory } from '../server.ts'

/** A volume whose commands are scripts of the shell: `tool` is run for all of them. */
async function startVolume(t: Teardown) {
  const directory = await temporaryDirectory(t)
  const tool = join(directory, 'tool')
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => lines.push(JSON.parse(line)) })
  const write = (script: string) => {
    writeFileSync(tool, `#!/bin/sh\ncd ${directory}\n${script}\n`)
    chmodSync(tool, 0o755)
  }
  const open = (commands: Commands) =>
    command.create({
      options: { root: join(directory, 'root'), commands },
      log,
      idleSeconds: 240,
      requestId: () => 'the-request',
      ...call,
    })
  write('')
  return { directory, tool, lines, write, open }
}

type Member = 'quota' | 'usage' | 'clone'

function requireMembers<M extends Member>(backend: Backend, ...members: M[]): Backend & Required<Pick<Backend, M>> {
  if (!hasMembers(backend, members)) throw new Error(`it has no ${members}`)
  return backend
}

const hasMembers = <M extends Member>(
  backend: Backend,
  members: M[],
): backend is Backend & Required<Pick<Backend, M>> => members.every((member) => backend[member] !== undefined)

const cloning = { ...call, onProgress: () => {}, onCheckpoint: () => {} }

t.test('what a command is asked and answers', async (t) => {
  const { directory, tool, lines, write, open } = await startVolume(t)
  const commands = { quota: [tool, 'a b', '$x'], usage: [tool], clone: [tool] }
  const backend = requireMembers(await open(commands), 'quota', 'usage', 'clone')
  const [folder, other] = [randomUUID(), randomUUID()]
  for (const id of [folder, other]) await backend.createFolder(id, call)
  const describe = async (id: string) => {
    const mount = await backend.mount?.(id, undefined)
    const files = mount?.type === 'path' ? mount.path : ''
    return { id, path: join(files, '..'), files }
  }
  const asked = () => JSON.parse(readFileSync(join(directory, 'asked'), 'utf8'))
  process.env.MANAGER_TOKENS = 'not-for-programs'
  t.teardown(() => delete process.env.MANAGER_TOKENS)

  write('cat > asked; env > env; echo "$1|$2|$#" > args; echo "set" >&2; echo "{}"')
  await backend.quota(folder, { bytes: 1000, files: null }, call)
  t.same(asked(), {
    operation: 'quota',
    requestId: 'the-request',
    folder: await describe(folder),
    limits: { bytes: 1000, files: null },
  })
  t.equal(readFileSync(join(directory, 'args'), 'utf8'), 'a b|$x|2\n', 'there is no shell')
  const env = readFileSync(join(directory, 'env'), 'utf8')
  t.match(env, /^STORAGE_PROXY_REQUEST_ID=the-request$/m)
  t.match(env, /^STORAGE_PROXY_OPERATION=quota$/m)
  t.match(env, /^PATH=/m)
  t.notMatch(env, 'not-for-programs')
  t.match(lines.at(-1), { level: 20, msg: 'storage command done', operation: 'quota', program: tool, stderr: 'set' })

  write(`cat > asked; echo '{"bytes": 12, "files": 3}'`)
  t.same(await backend.usage(folder, call), { bytes: 12, files: 3 })
  t.same(asked(), { operation: 'usage', requestId: 'the-request', folder: await describe(folder) })
  write(`echo ' { "bytes" : 0 } '`)
  t.same(await backend.usage(folder, call), { bytes: 0 }, 'a storage that counts no files')

  write(`cat > asked; echo '{"files": 7, "bytes": 70}'`)
  t.same(await backend.clone(folder, other, cloning), { files: 7, bytes: 70, changed: [], changedCount: 0 })
  t.same(asked(), {
    operation: 'clone',
    requestId: 'the-request',
    from: await describe(folder),
    to: await describe(other),
  })

  await t.rejects(backend.usage(randomUUID(), call), { code: 'entry_not_found' })
  for (const code of ['quota_exceeded', 'no_space', 'storage_unavailable', 'source_changed', 'entry_not_found']) {
    write(`echo '{"error": {"code": "${code}", "message": "the array says so"}}'`)
    await t.rejects(backend.usage(folder, call), { code, message: 'the array says so' })
  }
})

t.test('a command that goes wrong', async (t) => {
  const { directory, tool, lines, write, open } = await startVolume(t)
  const commands = { quota: [tool], usage: [tool], clone: [tool], timeoutSeconds: 1 }
  const backend = requireMembers(await open(commands), 'quota', 'usage')
  const folder = randomUUID()
  await backend.createFolder(folder, call)
  const limits = { bytes: null, files: null }
  const fails = async (script: string, message: string | RegExp, what: () => Promise<unknown>) => {
    write(script)
    await t.rejects(what, { code: 'storage_tool_failed', message }, script)
    t.match(lines.at(-1), { level: 40, msg: 'storage command failed', program: tool, err: { message } })
  }
  const usage = () => backend.usage(folder, call)
  const quota = () => backend.quota(folder, limits, call)

  await fails('echo no luck >&2; exit 3', 'the usage command ended with status 3; the log has what it said', usage)
  t.match(lines.at(-1), { status: 3, stderr: 'no luck' })
  await fails('kill -9 $$', 'tool was ended by SIGKILL', usage)
  await fails('sleep 600', 'tool did not end within 1 s', usage)
  await fails('head -c 100000000 /dev/zero', 'tool wrote more than 1048576 bytes', usage)
  await fails('', 'the usage command answered nothing', usage)
  await fails('head -c 1000 /dev/urandom', 'the usage command answered what is no JSON', usage)
  await fails('echo "{} {}"', 'the quota command answered what is no JSON', quota)
  const unfit: [string, RegExp][] = [
    ['[]', /^the usage command answered what does not fit at \/: expected object$/],
    ['null', /at \/: expected object$/],
    ['{}', /at \/bytes: expected required property$/],
    ['{"bytes": -1}', /at \/bytes: expected integer to be greater or equal to 0$/],
    ['{"bytes": 1.5}', /at \/bytes: expected integer$/],
    ['{"bytes": "1"}', /at \/bytes: expected integer$/],
    ['{"bytes": 1e300}', /at \/bytes: expected integer/],
    ['{"bytes": 1, "file": 2}', /at \/file: unexpected property$/],
    ['{"error": {"code": "out_of_luck", "message": "x"}}', /at \/error\/code: expected union value$/],
    ['{"error": {"code": "no_space"}}', /at \/error\/message: expected required property$/],
  ]
  for (const [answer, message] of unfit) await fails(`echo '${answer}'`, message, usage)
  t.match(lines.at(-1), { stdout: `${unfit.at(-1)![0]}\n`, status: 0 })
  chmodSync(tool, 0o644)
  await t.rejects(usage, { code: 'storage_tool_failed', message: 'tool cannot be started (EACCES)' })

  const aborting = new AbortController()
  write('touch started; sleep 600')
  const hanging = backend.clone?.(folder, folder, { ...cloning, signal: aborting.signal })
  while (!existsSync(join(directory, 'started'))) await new Promise((resolve) => setTimeout(resolve, 10))
  aborting.abort(new Error('enough'))
  await t.rejects(hanging!, { message: 'enough' }, 'a clone may take longer, and be cancelled')
})

t.test('a start that fails, and what is not configured', async (t) => {
  const { directory, tool, open } = await startVolume(t)
  const fails = (commands: Commands, message: string) => t.rejects(open(commands), { message })
  await fails({}, 'commands must have at least one of quota, usage, clone')
  await fails({ timeoutSeconds: 5 }, 'commands must have at least one of quota, usage, clone')
  await fails({ usage: ['tool'] }, 'commands/usage must begin with the absolute path of a program, not tool')
  await fails({ usage: [`${tool}s`] }, `commands/usage names ${tool}s, which cannot be found`)
  mkdirSync(join(directory, 'directory'))
  await fails(
    { clone: [join(directory, 'directory')] },
    `commands/clone names ${directory}/directory, which is no file`,
  )
  chmodSync(tool, 0o644)
  await fails({ quota: [tool] }, `commands/quota names ${tool}, which this user may not execute`)
  t.notOk(existsSync(join(directory, 'root')), 'nothing is made before')

  chmodSync(tool, 0o755)
  const { usage, quota, clone } = await open({ usage: [tool] })
  t.match(
    [typeof usage, typeof quota, typeof clone],
    ['function', 'undefined', 'function'],
    'files are cloned one by one',
  )
})
