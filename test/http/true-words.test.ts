import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { type Answer, Files } from '../server.ts'
import { server } from '../shared-server.ts'
import { create, signTus } from '../tus.ts'

async function put(url: string, body: string | ReadableStream, headers: Record<string, string> = {}): Promise<Answer> {
  const init = { method: 'PUT', headers, body, duplex: 'half' as const }
  return (await fetch(url, init)).json()
}

t.test('a refusal by a quota tells what others have reserved from what the upload itself has', async (t) => {
  const folder = await server.createFolder({ quota: { bytes: 3_000_000 } })
  await server.upload(folder, { used: 'x'.repeat(100) })
  const sign = (path: string) => server.sign(folder, path, { operation: 'upload' })
  // In chunks: room is reserved as the bytes come.
  const body = new ReadableStream({
    async pull(controller) {
      controller.enqueue(new Uint8Array(200_000))
      await sleep(10)
    },
  })
  const grown = await put(await sign('grows'), body)
  t.match(grown, { code: 'quota_exceeded', usage: 100, reserved: 0, quota: 3_000_000 })
  t.equal(grown.title, 'A quota leaves too little room')
  t.ok(grown.held > 1_000_000, 'its own')
  t.match(grown.detail, /100 are used, 0 reserved by others, \d{7} by this one, and \d+ more were wanted/)

  const files = new Files(server, folder, await server.mountOf(folder))
  await create(await signTus(files, 'other'), 2_000_000)
  const whole = await put(await sign('whole'), 'x'.repeat(1_500_000))
  t.match(whole, { code: 'quota_exceeded', usage: 100, reserved: 2_000_000, held: 0, wanted: 1_500_000 })
  t.match(whole.detail, /100 are used, 2000000 reserved, and 1500000 more were wanted/)
})

t.test('a vfolder that a clone cannot become', async (t) => {
  const [source, other] = [await server.createFolder(), await server.createFolder()]
  const answer: Answer = await (await server.manager('POST', `/folders/${source}/clone`, { id: other })).json()
  t.match(answer, { code: 'vfolder_exists', detail: `The vfolder ${other} exists and is no clone of this one.` })
})

t.test('an orphan that is none', async (t) => {
  const folder = await server.createFolder()
  const answer: Answer = await (await server.manager('POST', `/volumes/default/orphans/${folder}/adopt`)).json()
  t.match(answer, { code: 'vfolder_exists', detail: /is in the database/ })
})

t.test('a URL that was mistyped', async (t) => {
  for (const [path, taken] of [
    ['/folders/typo', 'GET /folders/{id}'],
    ['/folders/typo/files', 'GET /folders/{id}/files'],
    ['/folders/typo/content/a', 'GET /folders/{id}/content/{path}'],
    ['/jobs/last', 'GET /jobs/{id}'],
  ] as const) {
    const answer: Answer = await (await server.manager('GET', path)).json()
    t.match(answer, { code: 'validation_failed', in: 'params', field: 'id', rule: 'must be a UUID in lower case' })
    t.equal(answer.detail, `params id must be a UUID in lower case; the URL was taken for ${taken}`)
  }
})

t.test('a file that is not the one that is to be replaced', async (t) => {
  const folder = await server.createFolder()
  await server.upload(folder, { a: 'x' })
  const url = await server.sign(folder, 'a', { operation: 'upload' })
  const { etag }: Answer = await server.ask('GET', `/folders/${folder}/files/stat?path=a`)
  for (const [name, value] of [
    ['if-match', '"other"'],
    ['if-none-match', '*'],
  ] as const) {
    const answer = await put(url, 'y', { [name]: value })
    t.match(answer, { code: 'precondition_failed' })
    t.ok(answer.detail.includes(`a exists with the ETag "${etag}", last modified at 20`), answer.detail)
  }
  const coded = await put(url, 'y', { 'content-encoding': 'gzip' })
  t.match(coded, { code: 'unsupported_media_type', title: /or coding/ })
  const part = await put(url, 'y', { 'content-range': 'bytes 0-0/2' })
  t.match(part, { code: 'invalid_header', title: 'A header field does not fit' })
  const elsewhere = await put(url.replace(folder, await server.createFolder()), 'y')
  t.match(elsewhere, { code: 'token_not_for_this', detail: /another vfolder or path/ })
  t.match(await put(url.replace(/token=.*/, 'token=nonsense'), 'y'), {
    code: 'token_invalid',
    detail: /not signed here/,
  })
})

t.test('a length below what is there, and bytes behind the end', async (t) => {
  const files = await server.files()
  const tus = { 'tus-resumable': '1.0.0', 'content-type': 'application/offset+octet-stream' }
  const patch = async (url: string, body: string, headers: Record<string, string>) =>
    fetch(url, { method: 'PATCH', headers: { ...tus, ...headers }, body })
  const begun = await fetch(await signTus(files, 'a'), {
    method: 'POST',
    headers: { 'tus-resumable': '1.0.0', 'upload-defer-length': '1' },
  })
  const url = begun.headers.get('location')!
  t.equal((await patch(url, 'hello', { 'upload-offset': '0' })).status, 204)
  const short = await patch(url, '', { 'upload-offset': '5', 'upload-length': '3' })
  t.match(
    [short.status, await short.json()],
    [413, { code: 'file_too_large', detail: /5 bytes already, and Upload-Length is 3/ }],
  )
  t.equal((await patch(url, '', { 'upload-offset': '5', 'upload-length': '5' })).status, 204)
  const more = await patch(url, 'x', { 'upload-offset': '5' })
  t.match([more.status, await more.json()], [403, { title: 'The upload takes nothing more', detail: /complete/ }])
})
