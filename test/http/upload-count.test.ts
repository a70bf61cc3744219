import t from 'tap'
import { changeDatabase } from '../database.ts'
import { type Answer, startServer } from '../server.ts'
import { create, patch, signTus, tus } from '../tus.ts'

const server = await startServer(t)

t.test('a signed URL begins no more uploads at a time than maxUploads', async (t) => {
  const files = await server.files()
  const url = await signTus(files, 'a', { maxUploads: 2 })
  const other = await signTus(files, 'a', { maxUploads: 2 })
  const refused = async (headers: Record<string, string> = {}) => {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'tus-resumable': '1.0.0', 'upload-length': '3', ...headers },
    })
    const answer: Answer = await response.json()
    t.match(answer, { status: 429, code: 'too_many_uploads', maxUploads: 2, open: 2 })
    t.match(answer.detail, /finish|end/, 'with what to do')
  }

  const first = await create(url, 3)
  const second = await create(url, 3, { 'upload-concat': 'partial' })
  await refused()
  await refused({ 'upload-concat': 'partial' })
  await create(other, 3)
  t.equal((await server.ask('GET', `/folders/${files.folder}/uploads`)).uploads.length, 3, 'nothing is left of those')

  t.equal((await patch(first, 0, 'abc')).status, 204)
  const third = await create(url, 3)
  await refused()
  t.equal((await tus('DELETE', third)).status, 204)
  const fourth = await create(url, 3, { 'upload-concat': 'partial' })
  await refused()
  await server.ask('DELETE', `/folders/${files.folder}/uploads/${new URL(fourth).pathname.split('/').at(-1)}`)
  const fifth = await create(url, 3, { 'upload-concat': 'partial' })
  await refused()
  await patch(second, 0, 'abc')
  await patch(fifth, 0, 'def')
  await refused()
  const final = await tus('POST', url, { 'upload-concat': `final;${second} ${fifth}` })
  t.equal(final.status, 201, 'a final upload takes the places of its parts')
  await create(url, 3)
  const last = await create(url, 3)
  await refused()
  const id = new URL(last).pathname.split('/').at(-1)
  changeDatabase(server.dataDir, `UPDATE uploads SET expires_at = 1 WHERE id = '${id}'`)
  await create(url, 3)
  await refused()
})

t.test('exactly, when many are begun at once', async (t) => {
  const files = await server.files()
  const url = await signTus(files, 'a', { maxUploads: 5 })
  const statuses = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => {
      const kind: Record<string, string> = index % 2 === 0 ? {} : { 'upload-concat': 'partial' }
      return (await tus('POST', url, { 'upload-length': '3', ...kind })).status
    }),
  )
  t.equal(statuses.filter((status) => status === 201).length, 5)
  t.equal(statuses.filter((status) => status === 429).length, 35)
})

t.test('the option', async (t) => {
  const files = await server.files()
  const sign = (more: object) =>
    server.manager('POST', `/folders/${files.folder}/signed-urls`, { operation: 'upload', paths: ['a'], ...more })
  for (const maxUploads of [0, -1, 1.5, '1', null]) t.equal((await sign({ maxUploads })).status, 400, `${maxUploads}`)
  t.equal((await sign({ maxUploads: 1 })).status, 201)
  t.equal((await sign({ maxUploads: 1, operation: 'download' })).status, 400)
  const document: Answer = await (await fetch(`${server.url}/openapi.json`)).json()
  const schema = document.paths['/folders/{id}/signed-urls'].post.requestBody.content['application/json'].schema
  t.match(schema.properties.maxUploads, { type: 'integer', minimum: 1 })

  const url = await signTus(files, 'a')
  await Promise.all(Array.from({ length: 1000 }, () => create(url, 3)))
  t.match(
    await tus('POST', url, { 'upload-length': '3' }),
    { status: 429, code: 'too_many_uploads' },
    '1000 by default',
  )
})
