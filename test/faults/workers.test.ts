import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { Agent, get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { eventually, type LogLine, type Server, startServer, temporaryDirectory } from '../server.ts'

const size = 256 * 1024 * 1024
const serverFile = fileURLToPath(new URL('../../server.ts', import.meta.url))

/** The workers that listen and have not ended. */
function workersOf(server: Server): number[] {
  const pids = (msg: string) =>
    server
      .lines()
      .filter((line) => line.msg === msg)
      .map(({ worker }) => Number(worker))
  const ended = pids('worker ended')
  return pids('worker listens').filter((pid) => !ended.includes(pid))
}

async function startWorkers(t: Test, count: number, env: Record<string, string> = {}): Promise<Server> {
  const server = await startServer(t, { env: { WORKERS: String(count), ...env } })
  t.teardown(async () => {
    await server.end()
    for (const pid of workersOf(server)) if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL')
  })
  await eventually(() => workersOf(server).length === count)
  return server
}

/** Each on a connection of its own, until both workers took some. */
async function askAll(server: Server, count = 2): Promise<number[]> {
  return eventually(async () => {
    await Promise.all(Array.from({ length: 20 }, () => ask(`${server.managerUrl}/livez`)))
    const pids = new Set(server.lines().flatMap(({ msg, pid }) => (msg === 'request completed' ? [Number(pid)] : [])))
    return pids.size >= count && [...pids]
  })
}

/** How many answers came with the end of a connection that would have been kept alive. */
let farewells = 0

/** The status of an answer that is read to its end. */
async function ask(url: string, agent?: Agent): Promise<number | undefined> {
  const request = get(url, { agent: agent ?? new Agent({ keepAlive: false }) })
  try {
    const [response]: IncomingMessage[] = await once(request, 'response')
    await text(response!)
    if (agent !== undefined && response!.headers.connection === 'close') farewells++
    return response!.statusCode
  } catch (error) {
    // A server may close a connection that is kept alive whenever it likes; clients send such a request again.
    if (request.reusedSocket) return ask(url, agent)
    throw error
  }
}

interface Download {
  pid: number
  /** Reads the rest. */
  bytes(): Promise<number>
}

let downloads = 0

/** A download that has begun, and the worker that has it. */
async function startDownload(server: Server, url: string): Promise<Download> {
  const id = `download-${downloads++}`
  const request = get(url, { agent: new Agent({ keepAlive: false }), headers: { 'x-backend-request-id': id } })
  const [response]: IncomingMessage[] = await once(request, 'response')
  await once(response!, 'readable')
  const { pid } = await server.logged(({ request_id }) => request_id === id)
  return {
    pid: Number(pid),
    async bytes() {
      let bytes = 0
      for await (const chunk of response!) bytes += chunk.length
      return bytes
    },
  }
}

async function largeFile(server: Server): Promise<string> {
  const files = await server.files()
  await files.upload({ 'large.bin': 'x' })
  await truncate(join(files.mount, 'large.bin'), size)
  return server.sign(files.folder, 'large.bin')
}

/** Asks again and again on several connections; ends with how many answers there were of each status. */
function startLoad(url: string): { stop(): Promise<Record<string, number>> } {
  const answers: Record<string, number> = {}
  let stopped = false
  const client = async (agent?: Agent) => {
    while (!stopped) {
      const status = await ask(url, agent).catch((error: NodeJS.ErrnoException) => error.code ?? error.message)
      answers[String(status)] = (answers[String(status)] ?? 0) + 1
    }
    agent?.destroy()
  }
  const clients = [client(), client(), ...Array.from({ length: 4 }, () => client(new Agent({ keepAlive: true })))]
  return {
    async stop() {
      stopped = true
      await Promise.all(clients)
      return answers
    },
  }
}

function assertGone(t: Test, pids: number[]): Promise<boolean> {
  t.ok(pids.length > 0)
  return eventually(() => !pids.some((pid) => existsSync(`/proc/${pid}`)))
}

function assertWholeLines(t: Test, server: Server): void {
  const isWhole = (line: string) => line.endsWith('}') && line.match(/"request_id":/g)?.length === 1 && isJson(line)
  t.same(
    server.rawLines().filter((line) => !isWhole(line)),
    [],
    'each line is whole and has one request ID',
  )
}

function isJson(line: string): boolean {
  try {
    JSON.parse(line)
    return true
  } catch {
    return false
  }
}

const events = (server: Server, msg: string): LogLine[] => server.lines().filter((line) => line.msg === msg)

t.test('workers serve one port, and agree on generated secrets', async (t) => {
  const server = await startWorkers(t, 2, { MANAGER_TOKENS: '', SIGNING_KEYS: '' })
  const pids = await askAll(server)
  t.same(pids.sort(), workersOf(server).sort())

  const token = (await readFile(join(server.dataDir, 'manager-token'), 'utf8')).trim()
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const post = async (path: string, body: object) => {
    const response = await fetch(server.url + path, { method: 'POST', headers, body: JSON.stringify(body) })
    return response.json() as Promise<{ id: string; signedUrls: { url: string }[] }>
  }
  const { id } = await post('/folders', {})
  const { signedUrls } = await post(`/folders/${id}/signed-urls`, { operation: 'upload', paths: ['a'] })
  const statuses = await Promise.all(
    Array.from({ length: 20 }, async () => (await fetch(signedUrls[0]!.url, { method: 'PUT', body: 'x' })).status),
  )
  t.ok(
    statuses.every((status) => status === 200 || status === 201),
    String(statuses),
  )
  t.equal(await server.end(), 0)
  assertWholeLines(t, server)
})

t.test('long lines of several workers are not torn', async (t) => {
  const server = await startWorkers(t, 3, { LOG_LEVEL: 'trace' })
  const url = `${server.url}/nothing/${'x'.repeat(7000)}`
  for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 30 }, () => ask(url)))
  await eventually(() => events(server, 'request completed').length >= 600)
  assertWholeLines(t, server)
})

t.test('two addresses, each of them shared', async (t) => {
  const server = await startWorkers(t, 2, { HOST: 'localhost', MANAGER_PORT: '0' })
  await askAll(server)
  t.not(server.url, server.managerUrl)
  const url = await largeFile(server)
  t.equal(await ask(url), 200)
  t.equal(await ask(url.replace(server.url, server.managerUrl)), 404)
  assertWholeLines(t, server)
})

t.test('one that is killed loses its own connections only, and is started again', async (t) => {
  const server = await startWorkers(t, 2)
  const url = await largeFile(server)
  const downloads = await eventually(async () => {
    const some = await Promise.all(Array.from({ length: 6 }, () => startDownload(server, url)))
    return new Set(some.map(({ pid }) => pid)).size === 2 && some
  })
  const [killed, other] = workersOf(server)
  process.kill(killed!, 'SIGKILL')
  for (const { pid, bytes } of downloads) {
    if (pid === killed) await t.rejects(bytes())
    else t.equal(await bytes(), size)
  }
  t.equal(await ask(`${server.url}/livez`), 200)
  const ended = await server.logged(({ msg }) => msg === 'worker ended')
  t.match(ended, { worker: killed, signal: 'SIGKILL', level: 40 })
  await eventually(() => workersOf(server).length === 2)
  t.ok(workersOf(server).includes(other!))
  const story = server.linesOf(String(ended.request_id)).map(({ msg }) => msg)
  t.same(story, ['worker ended', 'a worker is started again in 100 ms', 'worker started', 'worker listens'])
})

t.test('one that dies again and again is started again later each time', async (t) => {
  const server = await startWorkers(t, 2)
  const pauses = () => server.lines().flatMap((line) => line.restart_milliseconds ?? [])
  let victim = workersOf(server)[1]!
  for (let death = 1; death <= 3; death++) {
    process.kill(victim, 'SIGKILL')
    await eventually(() => pauses().length === death && events(server, 'worker started').length === death + 2)
    victim = Number(events(server, 'worker started').at(-1)!.worker)
  }
  t.same(pauses(), [100, 200, 400])
  t.equal(await ask(`${server.url}/livez`), 200, 'the other one serves')
})

t.test('SIGHUP replaces the workers, and no request fails', async (t) => {
  const server = await startWorkers(t, 2)
  const before = workersOf(server)
  const url = await largeFile(server)
  const download = await startDownload(server, url)
  const load = startLoad(`${server.url}/livez`)
  server.process.kill('SIGHUP')
  await eventually(() => before.some((pid) => !workersOf(server).includes(pid)) || workersOf(server).length === 3)
  t.equal(await download.bytes(), size, 'a download that had begun comes to its end')
  const rolled = await server.logged(({ msg }) => msg === 'rolled', 60_000)
  const answers = await load.stop()
  t.same(Object.keys(answers), ['200'])
  t.ok(farewells > 0, 'kept connections end with an answer')
  t.equal(workersOf(server).length, 2)
  t.notOk(before.some((pid) => workersOf(server).includes(pid)))
  t.same(
    server.linesOf(String(rolled.request_id)).map(({ msg, code }) => (code === undefined ? msg : `${msg}: ${code}`)),
    [
      'rolling: each worker is replaced by a new one',
      ...['worker started', 'worker listens', 'worker ended: 0'],
      ...['worker started', 'worker listens', 'worker ended: 0'],
      'rolled',
    ],
  )
  assertWholeLines(t, server)
})

t.test('a worker that dies during a roll is replaced, too', async (t) => {
  const server = await startWorkers(t, 2)
  const before = workersOf(server)
  server.process.kill('SIGHUP')
  await eventually(() => events(server, 'worker started').length === 3)
  process.kill(before[1]!, 'SIGKILL')
  // While the roll goes on, another one is asked for, which comes after it.
  server.process.kill('SIGHUP')
  await eventually(() => events(server, 'rolled').length === 2 && workersOf(server).length === 2)
  t.notOk(workersOf(server).some((pid) => before.includes(pid)))
  t.equal(await ask(`${server.url}/livez`), 200)
})

t.test('a roll whose new worker cannot start leaves the old ones', async (t) => {
  const file = join(await temporaryDirectory(t), 'tokens')
  await writeFile(file, 'a-token-that-is-long-enough')
  const server = await startWorkers(t, 2, { MANAGER_TOKENS: '', MANAGER_TOKENS_FILE: file })
  const before = workersOf(server)
  await writeFile(file, 'short')
  server.process.kill('SIGHUP')
  await server.logged(({ msg }) => msg.startsWith('the roll stops'))
  t.same(workersOf(server), before)
  t.equal(await ask(`${server.url}/livez`), 200)
})

t.test('SIGTERM, also to the whole group at once, lets what runs finish', async (t) => {
  for (const group of [false, true]) {
    const server = await startWorkers(t, 2)
    const pids = workersOf(server)
    const download = await startDownload(server, await largeFile(server))
    const exited = once(server.process, 'exit')
    for (const pid of group ? [server.process.pid!, ...pids] : [server.process.pid!]) process.kill(pid, 'SIGTERM')
    await eventually(() => events(server, 'the service closes').length === 3)
    t.equal(await download.bytes(), size)
    t.same(await exited, [0, null])
    await assertGone(t, pids)
    t.notOk(server.lines().some(({ msg }) => msg === 'request aborted'))
    assertWholeLines(t, server)
  }
})

t.test('what takes longer than the time limit is cut', async (t) => {
  const server = await startWorkers(t, 2, { SHUTDOWN_TIMEOUT_SECONDS: '1' })
  await startDownload(server, await largeFile(server))
  t.equal(await server.end(), 0)
  t.ok(server.lines().some(({ msg, reason }) => msg === 'request aborted' && reason === 'the service closes'))
})

t.test('a second signal ends all at once', async (t) => {
  const server = await startWorkers(t, 2)
  const pids = workersOf(server)
  await startDownload(server, await largeFile(server))
  const exited = once(server.process, 'exit')
  server.process.kill('SIGTERM')
  await server.logged(({ msg }) => msg === 'the service closes')
  server.process.kill('SIGTERM')
  t.same(await exited, [1, null])
  await assertGone(t, pids)
  assertWholeLines(t, server)
})

t.test('workers whose supervisor is killed close', async (t) => {
  const server = await startWorkers(t, 2)
  const pids = workersOf(server)
  const download = await startDownload(server, await largeFile(server))
  await server.end('SIGKILL')
  t.equal(await download.bytes(), size, 'a download comes to its end')
  await assertGone(t, pids)
})

t.test('a worker that is told to end is started again', async (t) => {
  const server = await startWorkers(t, 2)
  const [told] = workersOf(server)
  process.kill(told!, 'SIGTERM')
  t.match(await server.logged(({ msg }) => msg === 'worker ended'), { worker: told, code: 0 })
  await eventually(() => workersOf(server).length === 2)
})

t.test('an error in the configuration is said once, and ends all', async (t) => {
  const VOLUMES = '{"a": {"backend": "tape"}}'
  const child = spawn(process.execPath, [serverFile], {
    env: { PATH: process.env.PATH, PORT: '0', DATA_DIR: await temporaryDirectory(t), WORKERS: '3', VOLUMES },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit')
  const [log, sentences] = await Promise.all([text(child.stdout), text(child.stderr)])
  t.same(await exited, [1, null])
  t.equal(sentences, 'VOLUMES/a/backend must be one of posix, nfs, btrfs, cephfs, xfs, command, s3, not tape\n')
  const lines = log.trim().split('\n')
  t.same(
    lines.map((line) => JSON.parse(line).msg),
    ['worker started', sentences.trim(), 'worker ended'],
  )
})

t.test('one worker has no supervisor', async (t) => {
  const server = await startServer(t, { env: { WORKERS: '1' } })
  const { pid } = server.process
  t.equal(await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'), '')
  t.notOk(server.lines().some((line) => line.pid !== pid))
})
