import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { changeDatabase } from '../database.ts'
import { scrape } from '../metrics.ts'
import { startReceiver, webhookSecret } from '../receiver.ts'
import { type Answer, eventually, type Server, startServer, type Teardown, temporaryDirectory } from '../server.ts'
import { needing, searchPath } from '../tools.ts'

const [fussy, away, redirecting] = [await startReceiver(t), await startReceiver(t), await startReceiver(t)]
const endpoints = {
  fussy: fussy.url,
  away: away.url,
  redirecting: redirecting.url,
  private: 'http://[::1]:9/',
  named: 'http://localhost:9/',
}
const env = {
  ...fussy.env,
  WEBHOOK_URLS: Object.entries(endpoints)
    .map(([name, url]) => `${name}=${url}`)
    .join(','),
  WEBHOOK_TIMEOUT_SECONDS: '1',
  WEBHOOK_RETRY_SECONDS: '4',
}
away.answer = () => 500
redirecting.answer = () => 302
const server = await startServer(t, { env })

const targetOf = async (name: string): Promise<Answer> =>
  (await server.ask('GET', '/events/targets')).targets.find((target: Answer) => target.name === name)
const deadOf = async (name: string): Promise<Answer[]> =>
  (await server.ask('GET', `/events/dead-letters?target=${name}&limit=1000`)).deadLetters

t.test('an event that is not taken holds up its vfolder only, is given up, and can be sent again', async (t) => {
  const [bad, good] = [await server.createFolder(), await server.createFolder()]
  await eventually(() => fussy.of(good).length === 1 && fussy.of(bad).length === 1)
  fussy.answer = ({ event }) => (event.folder === bad && event.type === 'file.stored' ? 422 : 204)
  await server.upload(bad, { refused: 'x' })
  const { id: seen } = await server.ask('POST', '/folders')
  await fussy.told((event) => event.folder === seen)
  await server.ask('POST', `/folders/${bad}/files/delete`, { paths: ['refused'] })
  await server.upload(good, { taken: 'x' })
  await fussy.told((event) => event.type === 'file.stored' && event.folder === good)
  t.equal(fussy.of(bad).length, 1, 'what follows waits')
  await eventually(
    () => fussy.seen.filter(({ event }) => event.folder === bad && event.type === 'file.stored').length > 2,
  )
  t.match(await targetOf('fussy'), { failingSince: null, error: null, waiting: 2 }, 'it is the event that is not taken')
  const dead = await eventually(async () => {
    const letters = await deadOf('fussy')
    return letters.length > 0 && letters
  })
  t.match(dead, [{ target: 'fussy', error: 'it answered 422', event: { type: 'file.stored', folder: bad } }])
  t.ok(dead[0].attempts > 1)
  const { firstError } = await server.ask('GET', `/requests/${dead[0].event.requestId}`)
  t.match(firstError, { action: 'event.deliver', outcome: 'failed', subject: 'file.stored to fussy: it answered 422' })
  await fussy.told((event) => event.type === 'file.deleted' && event.folder === bad)
  t.ok((await scrape(server)).sum('storage_proxy_events_dead', { target: 'fussy' }) === 1)

  fussy.answer = () => 204
  const cursors = [dead[0].event.cursor]
  t.same(await server.ask('POST', '/events/dead-letters/send', { target: 'fussy', cursors }), { letters: 1 })
  await fussy.told((event) => event.id === dead[0].event.id)
  t.same(await eventually(async () => (await deadOf('fussy')).length === 0 && 'none'), 'none')
  t.match(await eventually(async () => (await targetOf('fussy')).undelivered === 0 && targetOf('fussy')), {
    dead: 0,
    waiting: 0,
  })
})

t.test('an endpoint that is away is left alone, and told all of it when it is back', async (t) => {
  const state = await targetOf('away')
  t.match(state, { error: 'it answered 500', failingSince: /Z$/ })
  t.ok(state.undelivered + state.dead > 3)
  const asked = away.seen.length
  const folder = await server.createFolder()
  await server.upload(folder, { one: 'x' })
  t.ok(away.seen.length - asked < 3, 'not once for each event')
  away.answer = () => 204
  await server.ask('POST', '/events/dead-letters/send', { target: 'away' })
  await eventually(async () => (await targetOf('away')).undelivered === 0)
  t.same(
    away.of(folder).map(({ type }) => type),
    ['vfolder.created', 'file.stored'],
  )
  t.same(
    fussy
      .events()
      .map(({ id }) => id)
      .toSorted(),
    away
      .events()
      .map(({ id }) => id)
      .toSorted(),
    'nothing is missed',
  )
  t.match(await targetOf('away'), { failingSince: null, error: null, oldestUndelivered: null, dead: 0 })
})

t.test('a redirect is not followed, and private addresses are not asked', async (t) => {
  t.match((await targetOf('redirecting')).error, 'it answered 302; a redirect is not followed')
  t.equal(redirecting.deliveries.length, 0)
  t.match((await targetOf('private')).error, '::1 is not a public address; see WEBHOOK_PRIVATE_NETWORKS')
  // Of both addresses of the name, the one that is allowed is asked.
  t.match((await targetOf('named')).error, /ECONNREFUSED 127\.0\.0\.1:9/)
})

t.test('of an endpoint that takes nothing, all is given up in time, whatever it is about', async (t) => {
  const folders = await Promise.all(Array.from({ length: 30 }, () => server.createFolder()))
  const events: Answer[] = await eventually(async () => {
    const { events } = await server.ask('GET', '/events?limit=1000')
    return folders.every((folder) => events.some((event: Answer) => event.folder === folder)) && events
  })
  // Those of the tests before may be given up meanwhile, so that only the sum stands still.
  const total = async () => {
    const { undelivered, dead } = await targetOf('redirecting')
    return undelivered + dead
  }
  t.equal(await total(), events.length)
  const columns = 'target, position, lane, state, attempts, due_at'
  const { cursor } = events.at(-1)
  const letter = `insert into event_letters (${columns}) values ('redirecting', ${cursor}, 'x', 'dead', 1, 0)`
  await changeDatabase(server.dataDir, letter)
  t.equal(await total(), events.length, 'a dead letter is no undelivered event')
  await changeDatabase(server.dataDir, `delete from event_letters where lane = 'x'`)

  // The time for which an event is tried passes, and so does the one for which the endpoint is left alone.
  await setTimeout(5000)
  await server.ask('POST', '/events/dead-letters/send', { target: 'redirecting', cursors: ['0'] })
  const letters = await eventually(async () => {
    const dead = await deadOf('redirecting')
    return dead.length >= events.length && dead
  }, 10_000)
  t.ok(folders.every((folder) => letters.some(({ event }) => event.folder === folder)))
  t.match(await targetOf('redirecting'), { undelivered: 0, dead: letters.length, oldestUndelivered: null })
})

t.test(
  'an endpoint that does not answer, and one whose certificate nobody vouches for',
  needing('openssl'),
  async (t) => {
    const slow = await startReceiver(t)
    slow.answer = () => new Promise(() => {})
    const self = await startSelfSigned(t)
    const urls = { slow: slow.url, self: `https://127.0.0.1:${self}/` }
    const other = await startServer(t, {
      env: {
        ...env,
        WEBHOOK_URLS: Object.entries(urls)
          .map(([name, url]) => `${name}=${url}`)
          .join(','),
      },
    })
    const began = performance.now()
    await other.createFolder()
    t.ok(performance.now() - began < 1000, 'no request waits for them')
    const errors = await eventually(async () => {
      const { targets } = await other.ask('GET', '/events/targets')
      const found: Answer[] = targets.map(({ error }: Answer) => error)
      return found.every(Boolean) && found
    })
    t.match(errors, [/self-signed certificate/, 'no answer within 1 s'])
  },
)

async function startSelfSigned(t: Teardown): Promise<number> {
  const directory = await temporaryDirectory(t)
  const [key, cert] = [join(directory, 'key'), join(directory, 'cert')]
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=x']
  execFileSync('openssl', [...args, '-keyout', key, '-out', cert], { stdio: 'ignore', env: { PATH: searchPath } })
  const https = createHttps({ key: readFileSync(key), cert: readFileSync(cert) }).listen(0, '127.0.0.1')
  await once(https, 'listening')
  t.teardown(() => https.close())
  return (https.address() as AddressInfo).port
}

const example = fileURLToPath(new URL('../../examples/webhook-receiver.py', import.meta.url))

async function startExample(t: Teardown, port: number, file: string): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn('python3', [example, String(port), file], {
    env: { PATH: searchPath, WEBHOOK_SECRET: webhookSecret },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = await once(child.stdout!, 'data')
  return { child, port: Number(/:(\d+)\n/.exec(String(line))![1]) }
}

t.test(
  'the receiver in Python, which is stopped for a while under load, misses nothing',
  needing('python3'),
  async (t) => {
    const file = join(await temporaryDirectory(t), 'events.jsonl')
    const first = await startExample(t, 0, file)
    const url = `http://127.0.0.1:${first.port}/events`
    const other = await startServer(t, { env: { ...env, WEBHOOK_URLS: url, WEBHOOK_RETRY_SECONDS: '100' } })
    const folder = await other.createFolder()
    const store = (from: number) =>
      Promise.all(Array.from({ length: 20 }, (_, index) => putSmall(other, folder, `file-${from + index}`)))
    await store(0)
    await eventually(async () => existsSync(file) && (await readFile(file, 'utf8')).includes('file-'))
    first.child.kill('SIGKILL')
    await store(20)
    await eventually(async () => (await other.ask('GET', '/events/targets')).targets[0].failingSince !== null)
    await store(40)
    await startExample(t, first.port, file)
    await store(60)
    await eventually(async () => (await other.ask('GET', '/events/targets')).targets[0].undelivered === 0)
    const events: Answer[] = (await readFile(file, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    const stored = events.filter((event) => event.type === 'file.stored').flatMap(({ data }) => data.files)
    t.same(
      stored.map(({ path }) => path).toSorted(),
      Array.from({ length: 80 }, (_, index) => `file-${index}`).toSorted(),
      'each is told once, since the receiver knows what it has',
    )
    const { events: fed } = await other.ask('GET', '/events?limit=1000')
    const ofFolder = (all: Answer[]) => all.filter((event) => event.folder === folder).map(({ cursor }) => cursor)
    t.same(ofFolder(events), ofFolder(fed), 'in order')
  },
)

async function putSmall(server: Server, folder: string, path: string): Promise<void> {
  const url = await server.sign(folder, path, { operation: 'upload' })
  await fetch(url, { method: 'PUT', body: 'small' })
}
