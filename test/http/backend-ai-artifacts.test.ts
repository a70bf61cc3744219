import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { asBackendAi, authHeader, backendAiSecret, send } from '../backend-ai.ts'
import { startForClients } from '../backend-ai-clients.ts'
import { type Answer, formOf, temporaryDirectory } from '../server.ts'

const storages = { minio: { volume: 'default', buckets: ['models'] }, local: { volume: 'other' } }

t.test("artifacts of Backend.AI's manager", async (t) => {
  const root = await temporaryDirectory(t)
  const volumes = {
    default: { backend: 'posix', root: join(root, 'default') },
    other: { backend: 'posix', root: join(root, 'other') },
  }
  const env = { VOLUMES: JSON.stringify(volumes), BACKEND_AI_ARTIFACTS: JSON.stringify(storages) }
  const { server } = await startForClients(t, { env })
  const objects = '/v1/storages/s3/minio/buckets/models/object'
  const files = '/v1/storages/vfs/local'
  const call = (method: string, path: string, body?: unknown) => asBackendAi(server, method, path, body)
  const upload = (path: string, content: string, name = 'any name') =>
    fetch(`${server.managerUrl}/backend-ai${path}`, {
      method: 'POST',
      headers: { [authHeader]: backendAiSecret },
      body: formOf({ [name]: content }),
    })

  await t.test('objects', async (t) => {
    const key = 'org/model/config.json'
    t.match(await call('GET', `${objects}/meta`, { key }), { status: 404, json: { title: 'File not found' } })
    t.equal((await upload(`${objects}/upload?key=${key}`, '{"a": 1}')).status, 200)
    const meta = await call('GET', `${objects}/meta`, { key })
    t.match(meta, { status: 200, json: { content_length: 8, content_type: /^application\/json/, metadata: {} } })
    t.ok(Date.parse(meta.json.last_modified) > Date.now() - 60_000)
    const got = await call('POST', `${objects}/download`, { key })
    t.match(got, { status: 200, text: '{"a": 1}', headers: { 'content-type': 'application/octet-stream' } })

    const asked = { key: 'org/model/weights', content_type: null, expiration: 60, min_size: null, max_size: 10 }
    const { json } = await call('POST', `${objects}/presigned/upload`, asked)
    t.same(json.fields, {})
    const post = (content: string) => fetch(json.url, { method: 'POST', body: formOf({ 'from a disk.bin': content }) })
    t.equal((await post('more than ten')).status, 413)
    t.equal((await post('weights')).status, 201)
    const presigned = await call('POST', `${objects}/presigned/download`, { key: asked.key })
    t.equal(await (await fetch(presigned.json.url)).text(), 'weights')
    t.match(await call('POST', `${objects}/presigned/upload`, { ...asked, min_size: 1 }), { status: 400 })

    t.match(await call('DELETE', objects, { key: 'org/model' }), { status: 200, json: {} })
    t.match(await call('POST', `${objects}/download`, { key }), { status: 404 })
    t.match(await call('DELETE', objects, { key: 'org/model' }), { status: 200 }, 'what is gone')
    const { folders } = await server.ask('GET', '/folders')
    t.match(
      folders.find(({ metadata }: Answer) => metadata.backendAiArtifacts === 'minio/models'),
      { volume: 'default' },
    )
  })

  await t.test('files', async (t) => {
    t.match(await call('GET', `${files}/files`, { directory: '.' }), { status: 200, json: { files: [] } })
    for (const filepath of ['a/b.txt', 'a/c/d.txt']) {
      const response = await upload(`${files}/upload?filepath=${filepath}`, filepath)
      t.match([response.status, await response.json()], [201, { filepath }])
    }
    const meta = await call('GET', `${files}/meta`, { filepath: 'a/b.txt' })
    t.match(meta.json, { filepath: 'a/b.txt', content_length: 7, content_type: /^text\/plain/, is_directory: false })
    t.ok(Math.abs(meta.json.last_modified - Date.now() / 1000) < 60)
    t.match((await call('GET', `${files}/meta`, { filepath: './a' })).json, { is_directory: true })
    const { json } = await call('GET', `${files}/files`, { directory: 'a' })
    t.match(json.files, [
      { path: 'a/b.txt', name: 'b.txt', type: 'file', size: 7 },
      { path: 'a/c', name: 'c', type: 'directory', size: null },
      { path: 'a/c/d.txt' },
    ])
    t.equal((await call('POST', `${files}/download`, { filepath: 'a/b.txt' })).text, 'a/b.txt')
    const tar = await call('POST', `${files}/download`, { filepath: 'a' })
    t.equal(tar.headers['content-type'], 'application/x-tar')
    t.equal(String(spawnSync('tar', ['-t'], { input: tar.bytes }).stdout), 'b.txt\nc/\nc/d.txt\n')
    t.match(await call('DELETE', files, { filepath: 'a' }), { status: 200, json: { filepath: 'a' } })
    t.match(await call('GET', `${files}/files`, { directory: 'a' }), { status: 404 })
  })

  await t.test('what is refused', async (t) => {
    const key = 'a'
    for (const path of [
      '/v1/storages/s3/other/buckets/models/object/meta',
      '/v1/storages/s3/minio/buckets/other/object/meta',
      '/v1/storages/s3/local/buckets/models/object/meta',
    ]) {
      t.match(await call('GET', path, { key }), { status: 404, json: { error_code: /^vfolder_/ } }, path)
    }
    t.match(await call('GET', '/v1/storages/vfs/minio/meta', { filepath: 'a' }), { status: 404 })
    for (const key of ['../a', '/a', '', 'a/../../b']) {
      t.match(await call('POST', `${objects}/download`, { key }), { status: 400 }, key)
      t.equal((await upload(`${objects}/upload?key=${encodeURIComponent(key)}`, 'a')).status, 400, key)
    }
    for (const one of ['1', '1'.repeat(200_000)]) {
      const two = await fetch(`${server.managerUrl}/backend-ai${objects}/upload?key=two`, {
        method: 'POST',
        headers: { [authHeader]: backendAiSecret },
        body: formOf({ one, two: '2' }),
      })
      t.equal(two.status, 400)
      t.equal((await call('GET', `${objects}/meta`, { key: 'two' })).status, 404, 'nothing of it is stored')
    }
    for (const path of [`${objects}/upload?key=x`, `${files}/upload?filepath=x`]) {
      const { status, json } = await call('POST', path, { file: 'x' })
      t.match([status, json.data], [400, { '': 'Content-Type must be multipart/form-data.' }])
    }
    for (const expiration of [0, 604_801, 1e18]) {
      for (const operation of ['download', 'upload']) {
        const { status, json } = await call('POST', `${objects}/presigned/${operation}`, { key, expiration })
        t.match([status, Object.keys(json.data)], [400, ['expiration']])
      }
    }
    t.match(await send('GET', `${server.managerUrl}/backend-ai${objects}/meta`, { key }), { status: 403 })
    for (const path of ['/v1/registries/huggingface/scan', '/v1/registries/reservoir/import']) {
      t.match(await call('POST', path, { registry_name: 'x' }), { status: 501, json: { error_code: /^vfolder_/ } })
    }
    t.match(await call('GET', '/v1/registries/huggingface/model/a%2Fb?revision=main'), { status: 501 })
  })
})
