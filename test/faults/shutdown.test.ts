import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { truncate } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { eventually, type Files, managerToken, type Server, startServer, temporaryDirectory } from '../server.ts'

const size = 256 * 1024 * 1024

function open(server: Server, request: string, body = ''): Socket {
  const { hostname, port } = new URL(server.url)
  const socket = connect(Number(port), hostname)
  socket.write(`${request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${managerToken}\r\n${body}`)
  return socket
}

/** A download that has begun, and is not read further for now. */
async function startDownload(server: Server, files: Files): Promise<Socket> {
  await files.upload({ 'large.bin': 'x' })
  await truncate(join(files.mount, 'large.bin'), size)
  const socket = open(server, `GET /folders/${files.folder}/content/large.bin`, '\r\n')
  await once(socket, 'readable')
  return socket
}

/** An upload that has begun, of a file that goes on for as long as the test likes. */
async function startUpload(server: Server, files: Files): Promise<Socket> {
  const part = '--b\r\nContent-Disposition: form-data; name="file"; filename="new.bin"\r\n\r\nstart'
  const fields =
    'X-Backend-Request-ID: upload\r\nContent-Length: 1000000\r\nContent-Type: multipart/form-data; boundary=b'
  const socket = open(server, `POST /folders/upload?folder=${files.folder}`, `${fields}\r\n\r\n${part}`)
  await eventually(async () => (await server.staged()).length === 1)
  return socket
}

async function assertRefused(t: Test, server: Server): Promise<void> {
  await eventually(async () => {
    const { hostname, port } = new URL(server.url)
    const socket = connect(Number(port), hostname)
    const [refused] = await Promise.race([once(socket, 'error'), once(socket, 'connect').then(() => [])])
    socket.destroy()
    return refused?.code === 'ECONNREFUSED'
  })
  t.pass('a new connection is refused')
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`${signal} lets what runs finish, and takes nothing new`, async (t) => {
    const server = await startServer(t)
    const files = await server.files()
    const download = await startDownload(server, files)
    const ended = server.end(signal)
    await server.logged(({ msg }) => msg === 'the service closes')
    await assertRefused(t, server)
    t.equal(server.process.exitCode, null)
    let bytes = 0
    for await (const chunk of download) bytes += chunk.length
    t.ok(bytes > size, 'the download came to its end')
    t.equal(await ended, 0)
    t.notOk(server.lines().some(({ msg }) => msg === 'request aborted'))
  })
}

t.test('what takes longer than the time limit is cut, and nothing is left of it', async (t) => {
  const server = await startServer(t, { env: { SHUTDOWN_TIMEOUT_SECONDS: '1' } })
  const files = await server.files()
  const download = await startDownload(server, files)
  const upload = await startUpload(server, files)
  const started = Date.now()
  const ended = server.end()
  t.equal(await ended, 0)
  t.ok(Date.now() - started >= 1000)
  await eventually(() => {
    const aborted = server
      .lines()
      .filter(({ msg, reason }) => msg === 'request aborted' && reason === 'the service closes')
    return aborted.length === 2
  })
  t.ok((await text(download).catch(() => '')).length < size)
  await text(upload).catch(() => '')
  t.same(await server.staged(), [])
  t.same(
    server.lines().filter(({ level }) => level >= 50),
    [],
  )
})

t.test('an idle kept-alive connection does not hold it up', async (t) => {
  const server = await startServer(t)
  t.equal((await fetch(`${server.url}/livez`)).status, 200)
  const started = Date.now()
  t.equal(await server.end(), 0)
  t.ok(Date.now() - started < 5000)
})

t.test('a second signal ends the process at once', async (t) => {
  const server = await startServer(t)
  await startDownload(server, await server.files())
  const exited = once(server.process, 'exit')
  server.process.kill('SIGTERM')
  await server.logged(({ msg }) => msg === 'the service closes')
  server.process.kill('SIGTERM')
  const [code] = await exited
  t.not(code, 0)
})

t.test('npm start passes the signal on to the service, which closes', async (t) => {
  const env = { ...process.env, NODE_OPTIONS: '', PORT: '0', DATA_DIR: await temporaryDirectory(t) }
  const npm = spawn('npm', ['start'], {
    cwd: new URL('../..', import.meta.url),
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(npm, 'spawn')
  let log = ''
  npm.stdout.setEncoding('utf8').on('data', (text: string) => {
    log += text
  })
  const pid = await eventually(() => /"pid":(\d+),.*Server listening at/.exec(log)?.[1])
  t.teardown(() => existsSync(`/proc/${pid}`) && process.kill(Number(pid), 'SIGKILL'))
  npm.kill('SIGTERM')
  await eventually(() => !existsSync(`/proc/${pid}`))
  t.match(log, /"signal":"SIGTERM"/)
})
