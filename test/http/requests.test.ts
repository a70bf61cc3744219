import { fileURLToPath } from 'node:url'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { changeDatabase } from '../database.ts'
import { type Answer, ended, managerToken, type Server, startServer, temporaryDirectory } from '../server.ts'

const server: Server = await startServer(t, {
  env: {
    MANAGER_TOKENS: `control=${managerToken}`,
    BACKEND_PLUGINS: fileURLToPath(new URL('../hanging-backend.ts', import.meta.url)),
    VOLUMES: JSON.stringify({
      default: { backend: 'posix', root: await temporaryDirectory(t) },
      hanging: { backend: 'hanging', root: await temporaryDirectory(t) },
    }),
  },
})

async function under(id: string, method: string, path: string, body?: object): Promise<Answer> {
  return (await server.manager(method, path, body, { [requestIdHeader]: id })).json()
}

const story = (id: string, query = '') => server.ask('GET', `/requests/${id}${query}`)
/** Without what a busy machine takes long for. */
const changesOf = ({ events }: Answer) => events.filter(({ outcome }: Answer) => outcome !== 'slow')
const titles = (told: Answer) => told.chapters.map(({ kind, title }: Answer) => `${kind}: ${title}`)

t.test('a request ID from the first call to the end', async (t) => {
  const { id: folder } = await under('tour', 'POST', '/folders', {})
  const body = { operation: 'upload', paths: ['a.txt'] }
  const { signedUrls } = await under('tour', 'POST', `/folders/${folder}/signed-urls`, body)
  const put = (id: string) =>
    fetch(signedUrls[0].url, { method: 'PUT', body: 'abc', headers: { [requestIdHeader]: id } })
  await put('client-1')
  await put('client-2')
  const { job } = await under('tour', 'POST', `/folders/${folder}/clone`, {})
  await ended(server, job.id)
  await under('tour', 'POST', `/folders/${folder}/files/delete`, { paths: ['a.txt'] })
  const told = await story('tour')
  t.same(titles(told), [
    `request: folder.create ${folder}`,
    'request: url.sign a.txt',
    'opened: file.store a.txt',
    'opened: file.store a.txt',
    `request: folder.clone ${told.chapters[4].events[0].folder}`,
    'job: job clone-vfolder',
    'request: entry.delete a.txt',
  ])
  t.match(told.chapters[2], { id: 'client-1', actor: /^signed-url:/, outcome: 'succeeded', events: [{ bytes: 3 }] })
  t.match(told.chapters[4], { actor: 'manager:control', events: [{ action: 'job.queue' }, { subject: folder }] })
  const [process] = told.chapters[5].processes
  t.match(told.chapters[5], {
    id: job.id,
    outcome: 'succeeded',
    job: { state: 'succeeded', attempts: 1 },
  })
  t.match(changesOf(told.chapters[5]), [
    { action: 'job.queue', actor: 'manager:control' },
    { action: 'job.attempt', outcome: 'begun', count: 1, process },
    { action: 'folder.clone', outcome: 'succeeded', bytes: 3 },
    { action: 'job.end', outcome: 'succeeded', bytes: 3, process },
  ])
  t.same([told.signedUnder, told.firstError, told.nextCursor], [[], undefined, null])

  const client = await story('client-1')
  t.same([client.signedUnder, titles(client)], [['tour'], ['request: file.store a.txt']])

  await t.test('page by page', async (t) => {
    const actions: string[] = []
    for (let query = '?limit=3'; query !== ''; ) {
      const page = await story('tour', query)
      t.ok(page.chapters.length <= 4)
      actions.push(...page.chapters.flatMap(({ events }: Answer) => events.map(({ action }: Answer) => action)))
      query = page.nextCursor === null ? '' : `?limit=3&cursor=${page.nextCursor}`
    }
    const once = new Set(['url.sign', 'folder.create', 'job.attempt', 'job.end', 'entry.delete'])
    for (const action of once) t.equal(actions.filter((one) => one === action).length, 1, action)
    const wrong = await server.manager('GET', '/requests/tour?cursor=MTIz')
    t.match([wrong.status, await wrong.json()], [400, { code: 'invalid_cursor' }])
  })

  await t.test('as a page for people', async (t) => {
    const path = 'q?<img src=x>'
    await under('tour', 'POST', `/folders/${folder}/files/mkdir`, { path })
    const accept = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'
    const asked = await fetch(`${server.url}/requests/tour`, { headers: { accept } })
    t.match([asked.status, asked.headers.get('www-authenticate')], [401, /Basic realm=/])
    const authorization = `Basic ${btoa(`me:${managerToken}`)}`
    const page = await fetch(`${server.url}/requests/tour`, { headers: { accept, authorization } })
    t.match([page.status, page.headers.get('content-type')], [200, /^text\/html/])
    t.match(page.headers.get('content-security-policy'), /default-src 'none'/)
    const text = await page.text()
    for (const part of ['<h1>tour</h1>', 'client-2', 'job clone-vfolder', process]) {
      t.ok(text.includes(part), part)
    }
    t.notMatch(text, /<img|<script/, 'a name is no markup')
    t.ok(text.includes('q?&lt;img src=x&gt;'))
    const elsewhere = await fetch(`${server.url}/folders`, { headers: { authorization } })
    t.equal(elsewhere.status, 401, 'a password is taken for pages only')
    await elsewhere.arrayBuffer()
  })
})

t.test('an ID that many requests had: each is told apart, and the first error is named', async (t) => {
  const folder = await server.createFolder()
  for (const path of ['a', 'b']) await under('again', 'POST', `/folders/${folder}/files/mkdir`, { path })
  const form = new FormData()
  for (const name of ['1.txt', '2.txt']) form.append('file', new Blob(['x']), name)
  const url = `/folders/upload?folder=${folder}`
  await server.manager('POST', url, form, { [requestIdHeader]: 'again' })
  await under('again', 'POST', `/folders/${folder}/files/move`, { from: 'none', to: 'c' })
  const told = await story('again')
  t.equal(told.chapters.length, 4)
  t.same(told.chapters[2].events.map(({ path }: Answer) => path).toSorted(), ['1.txt', '2.txt'])
  t.match(told.firstError, { action: 'entry.move', outcome: 'refused', code: 'entry_not_found' })
  t.equal(told.chapters[3].outcome, 'refused: entry_not_found')
})

t.test('what the storage did not do, and what it took long for', async (t) => {
  const folder = await server.createFolder({ volume: 'hanging' })
  for (const from of ['away', 'slow']) await under('ill', 'POST', `/folders/${folder}/files/copy`, { from, to: 'to' })
  await under('ill', 'GET', `/folders/${folder}/files/stat?path=missing`)
  const told = await story('ill')
  t.same(titles(told), ['request: entry.copy to', 'request: entry.copy to'], 'an answer is no failure')
  const [away, slow] = told.chapters
  t.match(away.events, [
    { action: 'storage.stat', outcome: 'failed', code: 'storage_unavailable', path: 'away', volume: 'hanging', folder },
    { action: 'entry.copy', outcome: 'failed' },
  ])
  t.match(slow.events, [{ action: 'storage.stat', outcome: 'slow', path: 'slow' }, { action: 'entry.copy' }])
  t.ok(slow.events[0].count >= 1000)
  t.match(told.firstError, { action: 'storage.stat', code: 'storage_unavailable' })
  await under('looks-away', 'GET', `/folders/${folder}/files/stat?path=away`)
  const [failed] = (await story('looks-away')).chapters
  t.match(failed, { title: 'storage.stat away', outcome: 'failed: storage_unavailable' })
  const looked = await under('looks', 'GET', `/folders/${folder}/files/stat?path=slow`)
  t.equal(looked.code, 'entry_not_found')
  t.same(titles(await story('looks')), ['request: storage.stat slow'], 'also of what only looks')
})

t.test('what a job does is told with the job', async (t) => {
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'x' })
  const moving = { from: 'a.txt', to: 'b.txt', background: true }
  const { job } = await under('by-job', 'POST', `/folders/${folder}/files/move`, moving)
  await ended(server, job.id)
  const told = await story('by-job')
  t.same(titles(told), ['request: entry.move b.txt', 'job: job move-entry'])
  t.equal(told.chapters[0].outcome, 'begun')
  t.match(told.chapters[1], { id: job.id, outcome: 'succeeded', processes: [/^[^ ]+\/\d+$/] })
  t.match(
    changesOf(told.chapters[1]).find(({ action }: Answer) => action === 'entry.move'),
    { path: 'b.txt', outcome: 'succeeded' },
  )
})

t.test('an ID of which nothing is known, and one that cannot be', async (t) => {
  const unknown = await server.manager('GET', '/requests/nobody')
  t.match([unknown.status, await unknown.json()], [404, { code: 'request_not_known' }])
  const wrong = await server.manager('GET', '/requests/a%20b')
  t.match([wrong.status, await wrong.json()], [400, { code: 'validation_failed' }])
})

t.test('an ID of a hundred thousand rows', async (t) => {
  const columns = 'insert into audit (time, request_id, actor, action, outcome)'
  const values = Array.from({ length: 1000 }, (_, index) => `(${index}, 'much', 'y', 'z', 'succeeded')`)
  await changeDatabase(server.dataDir, `${columns} values ${values.join()}`)
  const more = `select time + 1000, 'much', 'y', 'z', 'succeeded' from audit where request_id = 'much'`
  for (let doubling = 0; doubling < 7; doubling++) await changeDatabase(server.dataDir, `${columns} ${more}`)
  const first = await story('much')
  const next = await story('much', `?cursor=${first.nextCursor}&limit=1000`)
  t.same([first.chapters.length, next.chapters.length], [200, 1000])
  t.ok(next.chapters[0].begunAt >= first.chapters.at(-1).begunAt)
})
