import t from 'tap'
import { scrape } from '../metrics.ts'
import { eventually, startServer } from '../server.ts'

const refused = 'storage_proxy_requests_refused_total'

t.test('an event loop that comes to nothing turns requests away, and goes on afterwards', async (t) => {
  /** On SIGWINCH each turn of the event loop takes 0.25 s, until the next one. */
  const slow = `
    let isSlow = false
    const wait = () => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 250)
      if (isSlow) setImmediate(wait)
    }
    process.on('SIGWINCH', () => {
      isSlow = !isSlow
      if (isSlow) wait()
    })`
  const server = await startServer(t, {
    nodeOptions: ['--import', `data:text/javascript,${encodeURIComponent(slow)}`],
    env: { MAX_EVENT_LOOP_DELAY_MILLISECONDS: '200' },
  })
  const files = await server.files()
  await files.upload({ 'a.txt': 'a' })
  const url = await server.sign(files.folder, 'a.txt')
  t.equal((await fetch(url)).status, 200)

  server.process.kill('SIGWINCH')
  const headers = { origin: 'https://app.example', 'x-backend-request-id': 'too-much' }
  const answer = await eventually(async () => {
    const response = await fetch(url, { headers })
    if (response.status === 503) return response
    await response.text()
    return undefined
  })
  t.equal(answer.headers.get('retry-after'), '5')
  t.equal(answer.headers.get('x-backend-request-id'), 'too-much')
  t.equal(answer.headers.get('access-control-allow-origin'), '*', 'pages can read it')
  t.match(await answer.json(), { code: 'overloaded', status: 503, requestId: 'too-much' })
  const upload = await server.manager('POST', `/folders/upload?folder=${files.folder}`, new FormData())
  t.equal(upload.status, 503, 'the manager is told, too')
  await upload.text()
  t.ok((await scrape(server)).sum(refused, { reason: 'event_loop' }) >= 2, 'a scrape is answered, and has the number')

  server.process.kill('SIGWINCH')
  await eventually(async () => (await fetch(url)).status === 200)
  const lines = server.linesOf('too-much')
  t.match(
    lines.find(({ msg }) => msg === 'request refused'),
    { code: 'overloaded', level: 30 },
  )
  t.equal((await fetch(`${server.url}/livez`, { headers: { 'x-forwarded-for': '203.0.113.7' } })).status, 200)
  const remote = lines.find(({ msg }) => msg === 'incoming request')?.req
  t.match(remote, { remoteAddress: '127.0.0.1' })
})

t.test('a process with too little memory serves who looks after it, and nobody else', async (t) => {
  const server = await startServer(t, { env: { MAX_MEMORY_BYTES: '1', MANAGER_PORT: '0' } })
  const ask = async (url: string) => {
    const response = await fetch(url, { headers: { authorization: 'Bearer a-manager-token-for-tests' } })
    return [response.status, (await response.text()).includes('"code":"overloaded"')]
  }
  // It looks once a second, and for the first time then.
  await eventually(async () => (await ask(`${server.managerUrl}/volumes`))[0] === 503)
  t.same(await ask(`${server.managerUrl}/volumes`), [503, true])
  t.same(await ask(`${server.url}/download/nothing`), [503, true])
  for (const path of ['livez', 'readyz', 'metrics']) {
    t.same(await ask(`${server.managerUrl}/${path}`), [200, false], path)
  }
  const scraped = await scrape(server)
  t.ok(scraped.sum(refused, { reason: 'memory' }) >= 3)
  t.equal(scraped.sum(refused, { reason: 'event_loop' }), 0)
  t.equal(await server.end(), 0)
})
