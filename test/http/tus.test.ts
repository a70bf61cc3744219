import { createHash } from 'node:crypto'
import { readdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import t from 'tap'
import { changeDatabase, readDatabase } from '../database.ts'
import { scrape } from '../metrics.ts'
import { type Answer, eventually, Files, startServer } from '../server.ts'
import {
  assertNothingLeft,
  chunkType,
  create,
  type Headers,
  patch,
  sha256,
  signTus,
  type TusAnswer,
  tus,
} from '../tus.ts'

const server = await startServer(t)

t.test('the protocol', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_MAX_BYTES: '1000000' } })
  const files = await server.files()
  const url = await signTus(files, 'some/place/file.txt')
  const file = join(files.mount, 'some/place/file.txt')

  await t.test('OPTIONS', async (t) => {
    for (const headers of [
      {},
      { origin: 'https://app.example', 'access-control-request-method': 'PATCH' },
    ] as Headers[]) {
      const answer = await tus('OPTIONS', url, headers)
      t.equal(answer.status, 204)
      t.equal(answer.headers.get('tus-version'), '1.0.0')
      t.equal(answer.headers.get('tus-max-size'), '1000000')
      t.match(answer.headers.get('tus-extension'), /creation-with-upload.*checksum,.*concatenation/)
      t.notMatch(answer.headers.get('tus-extension'), 'checksum-trailer', 'a trailer is not verified')
      t.match(answer.headers.get('tus-checksum-algorithm'), 'sha1')
    }
  })

  await t.test('in two parts', async (t) => {
    const metadata = 'filename aMOpbGxv,filetype dGV4dC9wbGFpbg==,empty'
    const location = await create(url, 11, { 'upload-metadata': metadata })
    t.match(location, new RegExp(`^${server.url}/upload/tus/[0-9a-f-]+\\?token=[\\w-]{43}$`))
    t.match(await patch(location, 0, 'hello '), { status: 204, offset: '6' })
    const head = await tus('HEAD', location)
    t.match(head, { status: 200, offset: '6' })
    t.equal(head.headers.get('upload-length'), '11')
    t.equal(head.headers.get('upload-metadata'), metadata)
    t.equal(head.headers.get('cache-control'), 'no-store')
    t.ok(Date.parse(head.headers.get('upload-expires')!) > Date.now() + 80_000_000)
    t.same(await readdir(files.mount), [], 'nothing is visible yet')

    t.match(await patch(location, 6, 'world'), { status: 204, offset: '11' })
    t.equal(await readFile(file, 'utf8'), 'hello world')
    t.same(await files.usage(), { files: 1, bytes: 11 })
    const done = await tus('HEAD', location)
    t.match(done, { status: 200, offset: '11' })
    t.equal(
      done.headers.get('repr-digest'),
      `sha-256=:${Buffer.from(sha256(Buffer.from('hello world')), 'hex').toString('base64')}:`,
    )
    t.match(await patch(location, 11, 'more'), { status: 403, code: 'upload_finished' })
    const line = await server.logged((line) => line.msg === 'upload completed')
    t.match(line, { path: 'some/place/file.txt', size: 11, sha256: sha256(Buffer.from('hello world')) })
    t.ok(line.upload_id && line.origin_request_id)
    t.notMatch(server.rawLines().join(), location.split('token=')[1]!, 'its token is not logged')
    t.match(await tus('DELETE', location), { status: 204 })
    t.equal(await readFile(file, 'utf8'), 'hello world', 'the file stays')
  })

  await t.test('created with its first bytes', async (t) => {
    const started = await tus('POST', url, { ...chunkType, 'upload-length': '5' }, 'he')
    t.match(started, { status: 201, offset: '2' })
    t.match(await patch(started.headers.get('location')!, 2, 'llo'), { status: 204, offset: '5' })
    t.match(await tus('POST', url, { ...chunkType, 'upload-length': '3' }, 'all'), { status: 201, offset: '3' })
    t.equal(await readFile(file, 'utf8'), 'all')
    t.match(await tus('POST', url, { 'upload-length': '0' }), { status: 201, offset: '0' })
    t.equal(await readFile(file, 'utf8'), '')
  })

  await t.test('with a length that follows', async (t) => {
    const started = await tus('POST', url, { 'upload-defer-length': '1' })
    const location = started.headers.get('location')!
    t.equal((await tus('HEAD', location)).headers.get('upload-defer-length'), '1')
    t.match(await patch(location, 0, 'hello'), { status: 204, offset: '5' })
    t.match(await patch(location, 5, '', { 'upload-length': '4' }), { status: 413 })
    t.match(await patch(location, 5, ' you', { 'upload-length': '9' }), { status: 204, offset: '9' })
    t.equal(await readFile(file, 'utf8'), 'hello you')
  })

  await t.test('with checksums', async (t) => {
    const location = await create(url, 10)
    const crc = Buffer.alloc(4)
    crc.writeUInt32BE(crc32('56'))
    const hash = (algorithm: string, text: string) =>
      `${algorithm} ${createHash(algorithm).update(text).digest('base64')}`
    t.match(await patch(location, 0, '01', { 'upload-checksum': hash('sha1', 'xx') }), {
      status: 460,
      code: 'checksum_mismatch',
    })
    t.match(await tus('HEAD', location), { offset: '0' }, 'the bytes are discarded')
    const checksums = [hash('sha1', '01'), hash('sha256', '23'), hash('md5', '45'), `crc32 ${crc.toString('base64')}`]
    t.match(await patch(location, 0, '01', { 'upload-checksum': checksums[0]! }), { status: 204, offset: '2' })
    t.match(await patch(location, 2, '23', { 'upload-checksum': checksums[1]! }), { status: 204, offset: '4' })
    t.match(await patch(location, 4, 'xx', { 'upload-checksum': checksums[2]! }), { status: 460 })
    t.match(await patch(location, 4, '4'), { status: 204, offset: '5' })
    t.match(await patch(location, 5, '56', { 'upload-checksum': checksums[3]! }), { status: 204, offset: '7' })
    for (const bad of ['sha1', 'sha1 ', 'sha1 %%', 'unknown AAAA', 'sha1 AAAA AAAA']) {
      t.match(await patch(location, 7, '7', { 'upload-checksum': bad }), { status: 400, code: 'invalid_header' }, bad)
    }
    t.match(await patch(location, 7, '789'), { status: 204, offset: '10' })
    const content = await readFile(file)
    t.equal(content.toString(), '0123456789')
    t.match(await server.logged((line) => line.msg === 'upload completed' && line.size === 10), {
      sha256: sha256(content),
    })
  })

  await t.test('ended by the client', async (t) => {
    const location = await create(url, 10)
    await patch(location, 0, 'hello')
    t.match(await tus('DELETE', location), { status: 204 })
    for (const method of ['HEAD', 'DELETE']) t.equal((await tus(method, location)).status, 404)
    t.match(await patch(location, 5, 'x'), { status: 404, code: 'upload_not_found' })
  })

  await t.test('by X-HTTP-Method-Override', async (t) => {
    const location = await create(url, 2)
    const override = (method: string, more: Headers = {}, body?: string) =>
      tus('POST', location, { 'x-http-method-override': method, ...more }, body)
    t.match(await override('PATCH', { ...chunkType, 'upload-offset': '0' }, 'h'), { status: 204, offset: '1' })
    t.match(await override('HEAD'), { status: 200, offset: '1' })
    t.match(await override('PUT'), { status: 400 })
    t.match(await override('DELETE'), { status: 204 })
  })

  await t.test('what is refused', async (t) => {
    const location = await create(url, 10)
    const other = await signTus(files, 'b', { maxBytes: 5 })
    const download = (await server.sign(files.folder, 'a')).split('token=')[1]
    await files.upload({ 'directory/file': 'x' })
    await symlink('/', join(files.mount, 'out'))
    const [directory, below, outside] = [
      await signTus(files, 'directory'),
      await signTus(files, 'directory/file/a'),
      await signTus(files, 'out/a'),
    ]
    const refusals: [number, string, Promise<TusAnswer>][] = [
      [412, 'tus_version_unsupported', tus('POST', url, { 'tus-resumable': '0.2.2', 'upload-length': '1' })],
      [412, 'tus_version_unsupported', tus('PATCH', location, { 'tus-resumable': '' })],
      [401, 'token_required', tus('POST', url.split('?')[0]!, { 'upload-length': '1' })],
      [401, 'token_invalid', tus('POST', `${url}x`, { 'upload-length': '1' })],
      [403, 'token_not_for_this', tus('POST', url.replace(/=.*/, `=${download}`), { 'upload-length': '1' })],
      [400, 'invalid_header', tus('POST', url)],
      [400, 'invalid_header', tus('POST', url, { 'upload-length': '-1' })],
      [400, 'invalid_header', tus('POST', url, { 'upload-length': '1', 'upload-defer-length': '1' })],
      [400, 'invalid_header', tus('POST', url, { 'upload-defer-length': '2' })],
      [400, 'invalid_header', tus('POST', url, { 'upload-length': '1', 'upload-metadata': 'a %%' })],
      [400, 'invalid_header', tus('POST', url, { 'upload-length': '1', 'upload-metadata': 'a AAAA,a AAAA' })],
      [409, 'is_a_directory', tus('POST', directory, { 'upload-length': '1' })],
      [409, 'is_a_directory', tus('POST', directory, { 'upload-length': '1', 'upload-concat': 'partial' })],
      [409, 'not_a_directory', tus('POST', below, { 'upload-length': '1' })],
      [403, 'outside_vfolder', tus('POST', outside, { 'upload-length': '1' })],
      [413, 'file_too_large', tus('POST', url, { 'upload-length': '1000001' })],
      [413, 'file_too_large', tus('POST', other, { 'upload-length': '6' })],
      [415, 'unsupported_media_type', tus('POST', url, { 'upload-length': '1', 'content-type': 'text/plain' }, 'x')],
      [401, 'token_required', patch(location.split('?')[0]!, 0, 'x')],
      [404, 'upload_not_found', patch(`${location}x`, 0, 'x')],
      [404, 'upload_not_found', patch(location.replace(/tus\/.{8}/, 'tus/00000000'), 0, 'x')],
      [400, 'validation_failed', patch(location.replace(/tus\/.{8}/, 'tus/x'), 0, 'x')],
      [409, 'upload_offset_mismatch', patch(location, 1, 'x')],
      [400, 'invalid_header', patch(location, -1, 'x')],
      [400, 'invalid_header', tus('PATCH', location, chunkType, 'x')],
      [
        415,
        'unsupported_media_type',
        tus('PATCH', location, { 'upload-offset': '0', 'content-type': 'text/plain' }, 'x'),
      ],
      [400, 'invalid_header', patch(location, 0, 'x', { 'upload-length': '11' })],
      [413, 'file_too_large', patch(location, 0, 'elevenbytes')],
    ]
    for (const [status, code, answer] of refusals) {
      const { headers, ...refusal } = await answer
      t.match(refusal, { status, code }, `${status} ${code}`)
      if (code === 'tus_version_unsupported') t.equal(headers.get('tus-version'), '1.0.0', 'and what is supported')
    }
    t.match(await tus('HEAD', location), { offset: '0' })
    for (const type of ['Application/Offset+Octet-Stream', 'application/offset+octet-stream ; a="b"']) {
      t.match(await patch(location, 0, '', { 'content-type': type }), { status: 204 }, type)
    }
    const deferred = (await tus('POST', other, { 'upload-defer-length': '1' })).headers.get('location')!
    t.match(await patch(deferred, 0, 'sixsix'), { status: 413, code: 'file_too_large' })
    for (const upload of [location, deferred]) await tus('DELETE', upload)
  })
  await assertNothingLeft(t, server, files.folder)
})

t.test('the quota', async (t) => {
  const files = await server.files()
  await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: 1000 } })
  const [a, b] = [await signTus(files, 'a'), await signTus(files, 'b')]
  const full = { status: 507, code: 'quota_exceeded' }
  const first = await create(a, 600)
  t.match(await tus('POST', b, { 'upload-length': '401' }), full)
  const deferred = (await tus('POST', b, { 'upload-defer-length': '1' })).headers.get('location')!
  t.match(await patch(deferred, 0, new Uint8Array(401)), full)
  t.match(await patch(deferred, 0, new Uint8Array(400)), { status: 204 })
  t.match(await patch(deferred, 400, new Uint8Array(1)), full)
  t.match(await patch(first, 0, new Uint8Array(600)), { status: 204 })
  t.same(await files.usage(), { files: 1, bytes: 600 })
  t.match(await patch(deferred, 400, '', { 'upload-length': '400' }), { status: 204 })
  t.same(await files.usage(), { files: 2, bytes: 1000 })
  const again = await create(a, 600)
  t.match(await patch(again, 0, new Uint8Array(600)), { status: 204 }, 'what replaces needs no room')
  t.same(await files.usage(), { files: 2, bytes: 1000 })
  await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['a', 'b'] })
  await assertNothingLeft(t, server, files.folder)
})

t.test('an upload of unknown length sets little room aside that it does not need yet', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const megabyte = 1024 * 1024
  await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: 100 * megabyte } })
  const deferred = (await tus('POST', await signTus(files, 'a'), { 'upload-defer-length': '1' })).headers.get(
    'location',
  )!
  const headers = { 'tus-resumable': '1.0.0', 'upload-offset': '0', ...chunkType }
  const few = { method: 'PATCH', headers, body: new Blob(['few']).stream(), duplex: 'half' } as const
  t.equal((await fetch(deferred, few)).status, 204)
  const other = await tus('POST', await signTus(files, 'b'), { 'upload-length': `${99 * megabyte - 3}` })
  t.match(other, { status: 201 })
})

t.test('what nobody could store is not reserved', async (t) => {
  await server.ask('PUT', '/quota-scopes/owner', { files: 100 })
  const files = new Files(server, await server.createFolder({ quotaScope: 'owner' }), '')
  const { volumes } = await server.ask('GET', '/volumes')
  const { availableBytes } = volumes[0].capacity
  const full = { status: 507, code: 'no_space' }
  const lengths = [Number.MAX_SAFE_INTEGER, availableBytes * 2]
  for (const length of lengths) {
    t.match(await tus('POST', await signTus(files, 'large'), { 'upload-length': `${length}` }), full, `${length}`)
    const deferred = await tus('POST', await signTus(files, 'later'), { 'upload-defer-length': '1' })
    const location = deferred.headers.get('location')!
    const declared = { 'upload-offset': '0', 'upload-length': `${length}`, ...chunkType }
    t.match(await tus('PATCH', location, declared), full, `${length}, declared later`)
    await tus('DELETE', location)
    const url = new URL(await server.sign(files.folder, 'put', { operation: 'upload' }))
    const head = `PUT ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n`
    const refused = await server.raw(`${head}Expect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`)
    t.match(JSON.parse(refused.body), full, `${length}, by PUT`)
  }
  const most = Math.floor(availableBytes * 0.6)
  const begun = [await create(await signTus(files, 'b'), most), await create(await signTus(files, 'c'), most)]
  const put = await fetch(await server.sign(files.folder, 'a', { operation: 'upload' }), { method: 'PUT', body: 'x' })
  t.equal(put.status, 201, 'others go on')
  for (const location of begun) await tus('DELETE', location)
  t.match((await server.ask('GET', '/quota-scopes/owner')).usage, { bytes: 1, files: 1 })
  await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['a'] })
  await assertNothingLeft(t, server, files.folder)
})

t.test('the manager sees what clients have begun, and can end it', async (t) => {
  const files = await server.files()
  const locations: string[] = []
  for (const [path, size] of [
    ['a', 1000],
    ['b', 2000],
    ['c', 3000],
  ] as const) {
    locations.push(await create(await signTus(files, path), size))
  }
  await patch(locations[0]!, 0, 'hello')
  const uploads: Answer[] = []
  let cursor = ''
  do {
    const page = await server.ask('GET', `/folders/${files.folder}/uploads?limit=2${cursor}`)
    uploads.push(...page.uploads)
    cursor = page.nextCursor === null ? '' : `&cursor=${page.nextCursor}`
  } while (cursor !== '')
  const byPath = uploads.toSorted((one, other) => (one.path < other.path ? -1 : 1))
  t.match(byPath, [
    { path: 'a', kind: 'whole', size: 1000, offset: 5, reserved: { bytes: 1000, files: 1 }, requestId: String },
    { path: 'b', size: 2000, offset: 0, reserved: { bytes: 2000 }, originRequestId: String, expiresAt: String },
    { path: 'c', size: 3000 },
  ])
  const end = async (folder: string, id: string) =>
    (await server.manager('DELETE', `/folders/${folder}/uploads/${id}`)).status
  t.equal(await end(await server.createFolder(), byPath[1].id), 404, 'not by another vfolder')
  t.equal(await end(files.folder, byPath[1].id), 204)
  t.equal(await end(files.folder, byPath[1].id), 404, 'it is gone')
  t.equal((await tus('HEAD', locations[1]!)).status, 404)
  t.equal((await patch(locations[0]!, 5, 'x'.repeat(995))).status, 204, 'the others go on')
  t.equal((await server.ask('GET', `/folders/${files.folder}/uploads`)).uploads.length, 1)
  t.equal((await server.manager('GET', `/folders/${crypto.randomUUID()}/uploads`)).status, 404)
})

t.test('numbers up to the largest add up, where the storage does not say its size', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const full = { status: 507, code: 'quota_exceeded' }
  await changeDatabase(server.dataDir, `UPDATE vfolders SET reserved_bytes = ${Number.MAX_SAFE_INTEGER}`)
  t.match(await tus('POST', await signTus(files, 'a'), { 'upload-length': '5' }), full, 'the vfolder has no more room')
  const put = async (folder: string, name = 'small') => {
    const url = await server.sign(folder, name, { operation: 'upload' })
    return (await fetch(url, { method: 'PUT', body: 'small' })).status
  }
  const counted = 'SELECT CAST(MAX(reserved_bytes) AS TEXT) AS reserved, CAST(MAX(usage_bytes) AS TEXT) AS used'

  // A small file sets room aside for those that come next, too.
  await changeDatabase(server.dataDir, `UPDATE vfolders SET reserved_bytes = ${Number.MAX_SAFE_INTEGER - 1000}`)
  t.equal(await put(files.folder, 'first'), 201)
  const list = async () => (await server.manager('GET', '/folders')).status
  const many = Array.from({ length: 20 }, (_, at) => [put(files.folder, `small-${at}`), list()])
  t.same([...new Set(await Promise.all(many.flat()))], [201, 200], 'what fits is stored, and can be read meanwhile')
  const [row] = await readDatabase(server.dataDir, `${counted} FROM vfolders`)
  t.ok(Number(row.reserved) <= Number.MAX_SAFE_INTEGER, row.reserved)
  t.match(await server.ask('GET', `/folders/${files.folder}`), { usage: { files: 21 } })

  const one = await server.createFolder({ quotaScope: 'unlimited' })
  const other = await server.createFolder({ quotaScope: 'unlimited' })
  t.equal(await put(other), 201)
  await changeDatabase(
    server.dataDir,
    `UPDATE vfolders SET reserved_bytes = ${Number.MAX_SAFE_INTEGER - 5} WHERE id = '${one}'`,
  )
  t.equal(await put(other, 'another'), 507, 'nor has the scope')

  await changeDatabase(
    server.dataDir,
    `UPDATE vfolders SET reserved_bytes = 0, usage_bytes = ${Number.MAX_SAFE_INTEGER}`,
  )
  await server.upload(files.folder, { nothing: '' })
  await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['first'] })
  t.match(await server.ask('GET', `/folders/${files.folder}`), { usage: { bytes: Number.MAX_SAFE_INTEGER - 5 } })
})

t.test('expiry', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_TTL_SECONDS: '2', UPLOAD_CLEANUP_INTERVAL_SECONDS: '4' } })
  const files = await server.files()
  await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: 1000 } })
  const url = await signTus(files, 'a')
  const location = await create(url, 900)
  await patch(location, 0, 'hello')
  t.match(await tus('POST', url, { 'upload-length': '900' }), { status: 507 })
  const seen = new Set<number>()
  await eventually(async () => {
    const { status } = await tus('HEAD', location)
    seen.add(status)
    return status === 404
  })
  t.ok(seen.has(200))
  const id = new URL(location).pathname.split('/').at(-1)
  t.match(await server.logged((line) => line.msg === 'expired upload removed'), { upload_id: id, bytes: 5 })
  const expired = { event: 'expired', kind: 'tus' }
  t.equal((await scrape(server)).sum('storage_proxy_uploads_total', expired), 1)
  await assertNothingLeft(t, server, files.folder)

  const late = await create(url, 10)
  await eventually(async () => (await tus('HEAD', late)).status !== 200)
  t.match([404, 410].includes((await patch(late, 0, 'x')).status), true)
})
