import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { inChunks } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { type Fault, startFaultyProxy } from '../faulty-proxy.ts'
import { call, contentOf, openS3, paths } from '../s3.ts'

const options = { ...call, onProgress: () => {}, onCheckpoint: () => {} }
const names = [
  " !'()*~",
  '"<>\\^`{|}',
  '#?[]@:$,',
  '%2F%41',
  '..x',
  'a+b&c=d;e',
  'directory/file',
  'first',
  'x'.repeat(200),
  '한국어 😀 é',
]

/** The SDK numbers its attempts. */
const isShort = ({ headers }: IncomingMessage) =>
  headers['x-amz-copy-source'] !== undefined && headers['amz-sdk-request'] === undefined

const faults: (Fault | undefined)[] = [
  undefined,
  'reset',
  'lost-answer',
  'slow-down',
  'internal-error',
  'late-error',
  'cut',
  'silence',
]

for (const fault of faults) {
  t.test(`copies that are sent the short way, and each meets: ${fault ?? 'nothing'}`, async (t) => {
    const { options: whole } = await openS3()
    const proxy = await startFaultyProxy(t, whole.endpoint!)
    const { open } = await openS3({ ...whole, endpoint: proxy.url, idleTimeoutSeconds: 2, copyTimeoutSeconds: 2 })
    const backend = await open()
    t.teardown(() => backend.close())
    let short = 0
    proxy.fault = (request) => {
      if (!isShort(request)) return undefined
      short++
      return fault
    }

    const [folder, copy] = [randomUUID(), randomUUID()]
    for (const id of [folder, copy]) await backend.createFolder(id, call)
    await backend.write(folder, parsePath('first'), inChunks(Buffer.from('any')), call)
    await backend.copy!(folder, parsePath('first'), parsePath('directory/file'), call)
    t.equal(short, 0, 'the first copy shows how they are sent')
    await Promise.all(
      names.map((name) => backend.write(folder, parsePath(name), inChunks(Buffer.from(`of ${name}`)), call)),
    )
    t.match(await backend.clone!(folder, copy, options), { files: names.length, changedCount: 0 })
    t.ok(short >= names.length)
    t.equal(fault && proxy.struck[fault], fault && short)

    t.same(await paths(backend, copy), names)
    for (const name of names) t.equal(String(await contentOf(backend, copy, name)), `of ${name}`)
  })
}
