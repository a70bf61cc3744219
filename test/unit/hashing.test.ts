import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Worker } from 'node:worker_threads'
import t from 'tap'
import { acquireBuffer, releaseBuffer } from '../../backends/buffers.ts'
import { inChunks, patternBytes } from '../../backends/conformance/bytes.ts'
import { createSha256 } from '../../lib/hashing/sha256.ts'

const MiB = 1024 ** 2
const largeBuffers = 24

/** Takes all buffers and gives them back. */
function countLargeBuffers(): number {
  const buffers = Array.from({ length: 2 * largeBuffers }, () => acquireBuffer())
  for (const buffer of buffers) releaseBuffer(buffer)
  return buffers.filter(({ length }) => length === MiB).length
}

async function hashOf(bytes: Buffer): Promise<string> {
  const hash = createSha256(bytes.length)
  for await (const chunk of inChunks(bytes)) await hash.update(chunk)
  return (await hash.digest()).toString('hex')
}

const expected = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

t.test('a thread that dies fails its file, and takes no memory from the files after it', async (t) => {
  const started = once(process, 'worker')
  const hash = createSha256(100 * MiB)
  const behind = hash.update(patternBytes(3 * MiB + 1))
  const [thread]: Worker[] = await started
  await thread?.terminate()
  await t.rejects(behind ?? Promise.resolve(), { message: 'a thread ended' })
  await t.rejects(hash.update(patternBytes(MiB)) ?? Promise.resolve(), { message: 'a thread ended' })
  await t.rejects(hash.digest(), { message: 'a thread ended' })
  hash.forget()
  const bytes = patternBytes(5 * MiB)
  t.equal(await hashOf(bytes), expected(bytes), 'another thread is started')
  t.equal(countLargeBuffers(), largeBuffers)
})

t.test('files are hashed, more of them at once than there are threads, and again', async (t) => {
  const files = Array.from({ length: 7 }, (_, index) => patternBytes(5 * MiB + index, `${index}`))
  for (const round of ['first', 'second']) {
    t.same(await Promise.all(files.map(hashOf)), files.map(expected), round)
  }
  t.equal(countLargeBuffers(), largeBuffers)
})

t.test('of a file that is given up nothing is in the digest of the next one', async (t) => {
  for (let round = 0; round < 6; round++) {
    const hash = createSha256(5 * MiB)
    await hash.update(patternBytes(3 * MiB))
    hash.forget()
  }
  const bytes = patternBytes(5 * MiB)
  t.equal(await hashOf(bytes), expected(bytes))
  t.equal(countLargeBuffers(), largeBuffers)
})
