import t from 'tap'
import { readDatabase } from '../database.ts'
import { type Answer, ended, eventually, managerToken, startServer, type Teardown } from '../server.ts'

const retention = { EVENT_RETENTION_SECONDS: '5', WEBHOOK_RETRY_SECONDS: '5' }
const server = await startServer(t, { env: { EVENTS: 'on', ...retention } })
await server.firstCount()
// Its end is an event, too.
await eventually(async () => (await server.ask('GET', '/events?from=now')).nextCursor !== '0')

const now = async (): Promise<string> => (await server.ask('GET', '/events?from=now')).nextCursor

/** Waits until the feed has so many events behind a cursor. */
const read = (cursor: string, count: number): Promise<Answer> =>
  eventually(async () => {
    const page = await server.ask('GET', `/events?cursor=${cursor}`)
    return page.events.length >= count && page
  })

/** Follows the feed; what has come is in `text`. */
async function follow(t: Teardown, query: string, headers: Record<string, string> = {}) {
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const {
    body,
    status,
    headers: answered,
  } = await fetch(`${server.url}/events${query}`, {
    headers: { authorization: `Bearer ${managerToken}`, accept: 'text/event-stream', ...headers },
    signal: abort.signal,
  })
  const followed = { text: '', status, type: answered.get('content-type'), end: () => abort.abort() }
  const reading = async () => {
    for await (const chunk of body!.pipeThrough(new TextDecoderStream())) followed.text += chunk
  }
  reading().catch(() => {})
  return followed
}

t.test('page by page, also as NDJSON', async (t) => {
  const start = await now()
  const folders = [await server.createFolder(), await server.createFolder(), await server.createFolder()]
  const { events, nextCursor } = await read(start, 3)
  t.same(
    events.map((event: Answer) => [event.type, event.folder]),
    folders.map((folder) => ['vfolder.created', folder]),
  )
  t.equal(nextCursor, events[2].cursor)
  t.same(await server.ask('GET', `/events?cursor=${nextCursor}`), { events: [], nextCursor }, 'where to go on')
  const first = await server.ask('GET', `/events?cursor=${start}&limit=2`)
  t.same(first.events, events.slice(0, 2))
  t.same((await server.ask('GET', `/events?cursor=${first.nextCursor}`)).events, events.slice(2))

  const lines = await server.manager('GET', `/events?cursor=${start}`, undefined, { accept: 'application/x-ndjson' })
  t.match(lines.headers.get('content-type'), /^application\/x-ndjson/)
  t.same(
    (await lines.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
    events,
  )
})

t.test('as it happens, and from where a client was cut off', async (t) => {
  const start = await now()
  const followed = await follow(t, '?from=now')
  t.match(followed, { status: 200, type: 'text/event-stream' })
  const folder = await server.createFolder()
  const { job } = await server.ask('DELETE', `/folders/${folder}`)
  await ended(server, job.id)
  await eventually(() => followed.text.includes('event: job.ended'))
  followed.end()
  const { events } = await read(start, 3)
  const toMessage = (event: Answer) => `id: ${event.cursor}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`
  t.equal(followed.text, `: events follow\n\n${events.map(toMessage).join('')}`)

  const again = await follow(t, '?from=now', { 'last-event-id': events[0].cursor })
  await eventually(() => again.text.includes('event: job.ended'))
  t.equal(again.text, `: events follow\n\n${events.slice(1).map(toMessage).join('')}`)
  again.end()
  t.equal((await server.manager('HEAD', '/events', undefined, { accept: 'text/event-stream' })).status, 200)
})

t.test('a cursor that is none, or is ahead', async (t) => {
  const ahead = String(Number(await now()) + 1000)
  for (const cursor of ['x', '-1', '1e3', ahead]) {
    t.match(await (await server.manager('GET', `/events?cursor=${cursor}`)).json(), {
      status: 400,
      code: 'invalid_cursor',
    })
  }
  for (const from of ['now', 'oldest']) {
    const both = await server.manager('GET', `/events?from=${from}&cursor=${await now()}`)
    t.match(await both.json(), { status: 400, code: 'validation_failed', field: 'from' })
  }
  t.match(await (await server.manager('GET', '/events?limit=1001')).json(), {
    code: 'validation_failed',
    field: 'limit',
  })
  t.equal((await fetch(`${server.url}/events`)).status, 401)
})

t.test('what is too old is not kept, and a client that would miss it is told so', async (t) => {
  await server.createFolder()
  const gone = await eventually(async () => {
    const response = await server.manager('GET', '/events?cursor=0')
    return response.status === 410 && response
  })
  const { code, oldestCursor }: Answer = await gone.json()
  t.equal(code, 'events_forgotten')
  t.equal((await server.manager('GET', `/events?cursor=${oldestCursor}`)).status, 200)
})

t.test('nobody is told, where nobody wants to be', async (t) => {
  t.same(await server.ask('GET', '/events/targets'), { targets: [] })
  t.same(await server.ask('GET', '/events/dead-letters'), { deadLetters: [], nextCursor: null })
  const send = await server.manager('POST', '/events/dead-letters/send', { target: 'x' })
  t.match(await send.json(), { status: 404, code: 'event_target_not_found' })
})

t.test('without EVENTS nothing is written down', async (t) => {
  const off = await startServer(t)
  const folder = await off.createFolder()
  await off.upload(folder, { file: 'x' })
  for (const path of ['/events', '/events/targets', '/events/dead-letters']) {
    t.match(await (await off.manager('GET', path)).json(), { status: 501, code: 'events_off' })
  }
  t.same(await readDatabase(off.dataDir, 'SELECT * FROM events'), [])
})
