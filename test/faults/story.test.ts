import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { type Answer, ended, type Server, startServer, temporaryDirectory } from '../server.ts'

const run = promisify(execFile)
const main = fileURLToPath(new URL('../../plugins/sight/story/main.ts', import.meta.url))
const id = 'the-story:1'
const headers = { [requestIdHeader]: id }

async function story(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return run(process.execPath, [main, ...args]).then(
    (result) => ({ code: 0, ...result }),
    (error) => error,
  )
}

/** Clones a tree, is killed in the middle, and lets another process finish it. @returns the logs of both, and the job */
async function killedClone(t: Test): Promise<{ logs: string[]; job: string; folder: string; told: Answer }> {
  const env = { LEASE_SECONDS: '1' }
  const dataDir = await temporaryDirectory(t)
  const first = await startServer(t, { dataDir, env })
  const files = await first.files()
  await mkdir(join(files.mount, 'tree'))
  for (let index = 0; index < 3000; index++) await writeFile(join(files.mount, `tree/${index}`), 'content')
  const asManager = (server: Server, method: string, path: string, body: object) =>
    server.manager(method, path, body, headers)
  const signing = { operation: 'download', paths: ['tree/1'] }
  const signed = await asManager(first, 'POST', `/folders/${files.folder}/signed-urls`, signing)
  const { signedUrls } = (await signed.json()) as { signedUrls: { url: string }[] }
  await fetch(signedUrls[0]!.url, { headers: { [requestIdHeader]: 'the-client' } })
  await fetch(`${signedUrls[0]!.url}x`, { headers: { [requestIdHeader]: 'a-stranger' } })
  const answer = await asManager(first, 'POST', `/folders/${files.folder}/clone`, {})
  const { job } = (await answer.json()) as { job: { id: string } }
  await first.logged(({ msg, job_id }) => msg === 'job started' && job_id === job.id)
  await first.end('SIGKILL')
  const second = await startServer(t, { dataDir, env })
  await ended(second, job.id)
  await second.logged(({ msg, job_id }) => msg === 'job succeeded' && job_id === job.id)
  const logs = [first, second].map((server) => server.rawLines().join('\n'))
  return { logs, job: job.id, folder: files.folder, told: await second.ask('GET', `/requests/${id}`) }
}

t.test('the story of a request ID, from the logs of two processes', async (t) => {
  const { logs, job, folder, told } = await killedClone(t)
  const directory = await temporaryDirectory(t)
  const file = async (name: string, content: string | Buffer) => {
    await writeFile(join(directory, name), content)
    return join(directory, name)
  }
  const [first, second] = [await file('first.log', logs[0]!), await file('second.log.gz', gzipSync(logs[1]!))]

  await t.test('for people', async (t) => {
    const { code, stdout } = await story(id, second, first)
    t.equal(code, 0)
    t.match(stdout, /^the-story:1: 2 requests, 1 opened URL, 1 job, 2 processes, \d/)
    const titles = stdout.split('\n').filter((line) => / {2}\[/.test(line))
    t.match(titles[0], new RegExp(`POST /folders/${folder}/signed-urls → 201, .*\\[[^ ]+/\\d+\\]$`))
    t.match(titles[1], /└ the-client: GET \/download\/.*token=\[redacted\] → 200, /)
    t.match(titles[2], new RegExp(`POST /folders/${folder}/clone → 202`))
    t.match(titles[3], new RegExp(`job clone-vfolder ${job} → succeeded, .*\\[[^ ]+/\\d+, [^ ]+/\\d+\\]$`))
    t.equal(titles.length, 4)
    t.match(stdout, /│ job started .*attempt=1\n(.*\n)*.*│ … \d+\.\d{3} s\n.*│ job started .*attempt=2\n/)
    t.notMatch(stdout, /a-stranger|first error/)
  })

  await t.test('for programs', async (t) => {
    const { stdout } = await story('--json', id, first, second)
    const { chapters, requestId } = JSON.parse(stdout)
    t.equal(requestId, id)
    t.match(
      chapters.map(({ kind, outcome }: { kind: string; outcome: string }) => [kind, outcome]),
      [
        ['request', '201'],
        ['opened', '200'],
        ['request', '202'],
        ['job', 'succeeded'],
      ],
    )
  })

  await t.test('the running service tells the same', async (t) => {
    const { stdout } = await story('--json', id, first, second)
    const chapterOf = ({ chapters }: Answer) => chapters.find(({ kind }: Answer) => kind === 'job')
    const [logged, known] = [chapterOf(JSON.parse(stdout)), chapterOf(told)]
    t.equal(logged.processes.length, 2)
    t.same(known.processes, logged.processes)
    const attempts = known.events.filter(({ action }: Answer) => action === 'job.attempt')
    t.same(
      attempts.map(({ outcome, count }: Answer) => [outcome, count]),
      [
        ['begun', 1],
        ['lost', 1],
        ['begun', 2],
      ],
    )
    t.match(told.firstError, { action: 'job.attempt', outcome: 'lost' })
  })

  await t.test('what another program says of it, and the first error', async (t) => {
    const s3 = 'tx0000-1'
    const line = (fields: object) =>
      JSON.stringify({ level: 30, time: 1_800_000_000_000, pid: 1, hostname: 'h', request_id: 'other-1', ...fields })
    const log = await file(
      'proxy.log',
      [
        `pod-1 ${line({ msg: 'incoming request', req: { method: 'PUT', url: '/x' } })}`,
        line({ time: 1_800_000_000_500, msg: 's3 command failed', error_code: 'SlowDown', s3_request_id: s3 }),
        line({ time: 1_800_000_001_000, level: 50, msg: 'request failed', err: { message: 'it is away' } }),
        line({ time: 1_800_000_001_001, msg: 'request completed', res: { statusCode: 503 } }),
        '{"level":30,"time":18000000',
      ].join('\n'),
    )
    const server = await file(
      's3.log',
      `2027-01-15T08:00:00.250Z req ${s3} PUT 503\n2027-01-15T08:00:00Z req tx0000-12\n`,
    )
    const { stdout } = await story('other-1', server, log)
    t.match(stdout, /PUT \/x → 503, 1\.001 s/)
    t.match(stdout, new RegExp(`other logs:\n +0\\.250  ${server}: .*${s3} PUT 503\n`))
    t.notMatch(stdout, /tx0000-12/)
    t.match(stdout, /first error: 0\.500 s, s3 command failed error_code=SlowDown/)
  })

  await t.test('an ID of which nothing is known, and what cannot be read', async (t) => {
    t.match(await story('nobody', first), { code: 1, stdout: 'Nothing is known of nobody.\n' })
    t.match(await story('nobody', join(directory, 'none')), { code: 2, stderr: /ENOENT.*none/ })
    t.match(await story(), { code: 2, stderr: /usage: npm run -s story/ })
    t.match(await story(id, await file('bad.log.gz', 'no gzip')), { code: 2, stderr: /incorrect header check/ })
  })
})
