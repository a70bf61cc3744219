import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { inChunks } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { xfs } from '../../backends/xfs/index.ts'
import { mountImage } from '../loop-image.ts'
import { call } from '../posix.ts'
import { searchPath } from '../tools.ts'
import { countingNumbers, fakeXfsQuota } from '../xfs-quota.ts'

t.test('xfs', async (t) => {
  const mountPoint = await mountImage(t, ['mkfs.xfs', '-q'], 400)
  const root = join(mountPoint, 'the root')
  const { program, state } = await fakeXfsQuota(t)
  const numbers = countingNumbers()
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => lines.push(JSON.parse(line)) })
  const open = (options = {}) =>
    xfs.create({ options: { root, program, ...options }, log, idleSeconds: 240, numbers, ...call })
  const backend = await open()
  const { usage, quota } = backend
  if (usage === undefined || quota === undefined) return t.fail('it has usage and quota')

  const createFolder = async () => {
    const folder = randomUUID()
    await backend.createFolder(folder, call)
    const mount = await backend.mount?.(folder, undefined)
    return { folder, path: mount?.type === 'path' ? mount.path : '' }
  }
  const write = (folder: string, path: string, bytes: number) =>
    backend.write(folder, parsePath(path), inChunks(Buffer.alloc(bytes, 'x')), call)
  const limitOf = (project: number) => readFileSync(join(state, `limit-${project}`), 'utf8').trim()
  const goWrong = (how: string) => writeFileSync(join(state, 'wrong'), how)
  const goRight = () => rmSync(join(state, 'wrong'), { force: true })
  /** The projects of the entries below a directory, as the filesystem has them. */
  const projectsIn = (path: string) =>
    new Set(
      execFileSync('lsattr', ['-pR', path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
        .split('\n')
        .map((line) => /^ *(\d+) /.exec(line)?.[1])
        .filter(Boolean),
    )

  t.test('what is stored is of the project of its vfolder, which the storage counts', async (t) => {
    const { folder, path } = await createFolder()
    const project = 1_000_000 + ((await numbers.find(folder)) ?? 0) - 1
    t.same(await usage(folder, call), { bytes: 0, files: 0 })
    await write(folder, 'small', 5)
    await write(folder, 'dir/large', 3_000_000)
    await backend.symlink?.(folder, parsePath('link'), 'small', call)
    const used = Number(execFileSync('du', ['-sk', path], { encoding: 'utf8' }).split('\t')[0]) * 1024
    t.same(await usage(folder, call), { bytes: used, files: 4 }, 'directories count as files')
    t.same(projectsIn(path), new Set([String(project)]))

    await quota(folder, { bytes: 10_000_000_001, files: 100 }, call)
    t.equal(limitOf(project), '9765626 120', 'the next KiB, and its own directories and what replaces a file')
    await quota(folder, { bytes: 0, files: 0 }, call)
    t.equal(limitOf(project), '1 20', 'not 0, which is no limit')
    await quota(folder, { bytes: null, files: null }, call)
    t.equal(limitOf(project), '0 0')
    const asked = readFileSync(join(state, 'asked'), 'utf8')
    t.match(asked, `limit -p bsoft=0 bhard=10000001024 isoft=0 ihard=120 ${project}`)

    await quota(folder, { bytes: 1_000_000, files: 5 }, call)
    await backend.removeFolder(folder, call)
    t.equal(limitOf(project), '0 0', 'a project without a vfolder has no limit')
    t.equal(await numbers.find(folder), undefined)
  })

  t.test('what comes back from a backup is given to its project again', async (t) => {
    const { folder, path } = await createFolder()
    const project = String(1_000_000 + ((await numbers.find(folder)) ?? 0) - 1)
    const home = join(path, '..')
    await write(folder, 'dir/file', 10_000)
    const upload = randomUUID()
    await backend.beginUpload(folder, upload, call)
    const takeFromProject = () => {
      const args = ['-x', '-c', `project -C -p . ${project}`, mountPoint]
      execFileSync('xfs_quota', args, { cwd: home, env: { PATH: searchPath } })
      t.same(projectsIn(home), new Set(['0']))
    }
    takeFromProject()

    // A first attempt is broken off between the entries and the directory itself.
    goWrong('case $* in *"project -s -d 0"*) kill -9 $$;; esac')
    await t.rejects(usage(folder, call), { code: 'storage_tool_failed', message: 'xfs_quota was ended by SIGKILL' })
    goRight()
    await t.rejects(usage(folder, { signal: AbortSignal.abort(new Error('enough')) }), { message: 'enough' })
    t.match(await usage(folder, call), { files: 2 }, 'an upload does not count')
    t.same(projectsIn(home), new Set([project]))

    takeFromProject()
    await quota(folder, { bytes: 1_000_000, files: null }, call)
    t.same(projectsIn(home), new Set([project]), 'by new limits, too')
    takeFromProject()
    await backend.createFolder(folder, call)
    t.same(projectsIn(home), new Set([project]), 'and where a vfolder is made that is there')
  })

  t.test('a project that others use is left to them', async (t) => {
    const { folder } = await createFolder()
    const last = (await numbers.find(folder)) ?? 0
    for (let ahead = 1; ahead <= 5; ahead++) writeFileSync(join(state, `limit-${1_000_000 + last + ahead - 1}`), '7 0')
    const next = await createFolder()
    t.equal(await numbers.find(next.folder), last + 1 + 1 + 2 + 4, 'it looks ever further')
    const high = await open({ firstProject: 2 ** 31 - 1 })
    await t.rejects(high.createFolder(randomUUID(), call), {
      message: /there is no project 21474836\d\d: firstProject/,
    })
  })

  t.test('a tool that goes wrong', async (t) => {
    const { folder } = await createFolder()
    const failsWith = async (
      how: string,
      message: string,
      what: () => Promise<unknown> = () => usage(folder, call),
    ) => {
      goWrong(how)
      await t.rejects(what, { code: 'storage_tool_failed', message }, how)
      goRight()
    }
    lines.length = 0
    await failsWith('echo "xfs_quota: no luck" >&2; exit 3', 'xfs_quota ended with status 3; the log has what it said')
    t.match(lines.at(-1), { level: 40, msg: 'xfs_quota failed', status: 3, stderr: 'xfs_quota: no luck' })
    await failsWith('exit 0', 'the filesystem counts no projects: it is mounted without prjquota')
    await failsWith('echo garbage; exit 0', 'the filesystem counts no projects: it is mounted without prjquota')
    await failsWith('head -c 10000000 /dev/zero; exit 0', 'xfs_quota wrote more than 1048576 bytes')
    await failsWith('chmod -x "$0"; exit 3', 'xfs_quota ended with status 3; the log has what it said')
    await failsWith('', 'xfs_quota cannot be started (EACCES)')
    execFileSync('chmod', ['+x', ...program])
    const other = randomUUID()
    await failsWith(
      'case $* in *"project -s"*) exit 1;; esac',
      'xfs_quota ended with status 1; the log has what it said',
      () => backend.createFolder(other, call),
    )
    await backend.createFolder(other, call)
    t.match(await usage(other, call), { files: 0 }, 'and it goes on with what was begun')
    t.match(await usage(folder, call), { files: 0 })

    const aborting = new AbortController()
    goWrong(`touch "${state}/started"; exec sleep 600`)
    const hanging = usage(folder, { signal: aborting.signal })
    while (!existsSync(join(state, 'started'))) await new Promise((resolve) => setTimeout(resolve, 10))
    aborting.abort(new Error('enough'))
    await t.rejects(hanging, { message: 'enough' })
    goRight()
  })

  t.test('a start that fails', async (t) => {
    const fails = (message: RegExp | string, options: object) => t.rejects(open(options), { message })
    await fails(/^xfs_quota-is-missing cannot be started \(ENOENT\)$/, { program: ['xfs_quota-is-missing'] })
    const mounted = 'it must be XFS, mounted with the option prjquota'
    await fails(`the filesystem of root does not count projects: ${mounted}`, { program: ['xfs_quota'] })
    const off = join(state, 'off')
    const answer = 'printf "Project quota state on /\\n  Accounting: ON\\n  Enforcement: OFF\\n"'
    writeFileSync(off, `#!/bin/sh\n${answer}\n`, { mode: 0o755 })
    await fails(`the filesystem of root counts projects but does not limit them: ${mounted}`, { program: [off] })
    writeFileSync(off, `#!/bin/sh\ncase $* in *state*) ${answer.replace('OFF', 'ON')};; esac\n`)
    await fails(/^xfs_quota may not ask for limits: the service needs CAP_SYS_ADMIN/, { program: [off] })
    const { numbers: _, ...context } = { log, idleSeconds: 240, numbers, ...call }
    await t.rejects(xfs.create({ ...context, options: { root, program } }), { message: /need numbers/ })
  })

  t.test('nothing is left of what was removed', async (t) => {
    for (const place of ['staging', 'trash', 'uploads']) t.same(readdirSync(join(root, place)), [])
  })
})
