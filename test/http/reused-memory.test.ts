import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { patternBytes } from '../../backends/conformance/bytes.ts'
import { type Answer, ended, type Server, startServer, temporaryDirectory } from '../server.ts'
import { needing } from '../tools.ts'
import { chunkType, create, signTus, tus } from '../tus.ts'

const plugin = fileURLToPath(new URL('../reusing-backend.ts', import.meta.url))
const sizes = [0, 3, 9_999, 20_001, 65_536, 65_537, 131_072, 131_073, 3_000_000]
const files = Object.fromEntries(
  Array.from({ length: 40 }, (_, index) => {
    const bytes = patternBytes(sizes[index % sizes.length]!)
    return [`dir/file-${index}`, new Uint8Array(bytes.map((byte) => byte ^ index))]
  }),
)

async function start() {
  const roots = await temporaryDirectory(t)
  const volume = (backend: string, name: string) => ({ backend, root: join(roots, name) })
  const VOLUMES = JSON.stringify({ default: volume('reusing', 'reusing'), local: volume('posix', 'local') })
  const server = await startServer(t, { env: { VOLUMES, BACKEND_PLUGINS: plugin } })
  const folder = await server.createFolder()
  await server.upload(folder, files)
  return { server, folder }
}

const get = async (url: string, headers: Record<string, string> = {}) =>
  Buffer.from(await (await fetch(url, { headers })).arrayBuffer())

async function downloaded(t: { ok(value: boolean, name: string): unknown }, server: Server, folder: string) {
  for (const [path, bytes] of Object.entries(files)) {
    t.ok((await get(await server.sign(folder, path))).equals(bytes), `${path} of ${bytes.length} bytes`)
  }
}

const { server, folder } = await start()

t.test('downloads have the bytes of the file', async (t) => {
  await downloaded(t, server, folder)
  const [path, bytes] = Object.entries(files)[3]!
  const url = await server.sign(folder, path)
  const range = (start: number, end: number) => Buffer.from(bytes.subarray(start, end + 1))
  t.ok((await get(url, { range: 'bytes=5-18000' })).equals(range(5, 18_000)))
  const several = await get(url, { range: 'bytes=5-14000,14100-19000' })
  t.ok(several.includes(range(5, 14_000)) && several.includes(range(14_100, 19_000)))
})

for (const [archive, query] of [
  ['tar', ''],
  ['tar.gz', ''],
  ['zip', ''],
  ['zip', '&compression=deflate'],
] as const) {
  t.test(`a ${archive}${query} has the bytes of each file`, needing('bsdtar'), async (t) => {
    const directory = await temporaryDirectory(t)
    await writeFile(join(directory, 'archive'), await get((await server.signArchive(folder, [], { archive })) + query))
    await mkdir(join(directory, 'out'))
    await promisify(execFile)('bsdtar', ['-xf', '../archive'], { cwd: join(directory, 'out') })
    for (const [path, bytes] of Object.entries(files)) {
      t.ok((await readFile(join(directory, 'out', path))).equals(bytes), `${path} of ${bytes.length} bytes`)
    }
  })
}

t.test('a clone on another volume has the bytes of each file', async (t) => {
  const clone: Answer = await server.ask('POST', `/folders/${folder}/clone`, { volume: 'local' })
  t.match(await ended(server, clone.job.id), { state: 'succeeded' })
  await downloaded(t, server, clone.folder.id)
})

t.test('a tus upload, also one of parts', async (t) => {
  const bytes = patternBytes(1_000_000)
  const send = async (name: string, content: Buffer, more: Record<string, string> = {}) => {
    const upload = await create(await signTus({ server, folder }, name), content.length, more)
    const patch = await tus('PATCH', upload, { ...chunkType, 'upload-offset': '0' }, content)
    t.equal(patch.status, 204)
    return upload
  }
  await send('whole', bytes)
  t.ok((await get(await server.sign(folder, 'whole'))).equals(bytes))
  const partial = { 'upload-concat': 'partial' }
  const parts = [await send('joined', bytes, partial), await send('joined', bytes.subarray(0, 5), partial)]
  const joined = await tus('POST', await signTus({ server, folder }, 'joined'), {
    'upload-concat': `final;${parts.join(' ')}`,
  })
  t.equal(joined.status, 201)
  t.ok((await get(await server.sign(folder, 'joined'))).equals(Buffer.concat([bytes, bytes.subarray(0, 5)])))
})
