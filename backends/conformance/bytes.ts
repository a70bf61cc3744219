import assert from 'node:assert/strict'
import { createCipheriv, createHash } from 'node:crypto'

export const MiB = 1024 * 1024

/** Bytes in which no two places look alike, the same ones for the same seed. */
export function patternBytes(length: number, seed = 'storage-proxy'): Buffer {
  const key = createHash('sha256').update(seed).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

const patterns = new Map<string, Buffer>()
/** So many are remembered: each may have some MiB. */
const mostPatterns = 8

/** The same bytes, in memory that others read as well: to be read only. To make them anew is most of the work of a case. */
export function sharedPattern(length: number, seed = 'storage-proxy'): Buffer {
  const known = patterns.get(seed)
  if (known !== undefined && known.length >= length) return known.subarray(0, length)
  if (patterns.size >= mostPatterns) patterns.clear()
  const bytes = patternBytes(length, seed)
  patterns.set(seed, bytes)
  return bytes
}

/**
 * Gives bytes in chunks of an odd size, and uses the memory of each again, so that a backend that keeps a chunk is
 * found out. The backend may only read them.
 */
export async function* inChunks(bytes: Buffer, chunkBytes = 65_521): AsyncGenerator<Buffer> {
  const memory = Buffer.alloc(chunkBytes)
  for (let start = 0; start < bytes.length; start += chunkBytes) {
    const chunk = memory.subarray(0, bytes.copy(memory, 0, start, start + chunkBytes))
    yield chunk
    assert.ok(chunk.equals(bytes.subarray(start, start + chunkBytes)), 'the chunk was not written to')
  }
}

/** Gives the first half of the bytes, calls `interrupt`, which may throw, and gives the rest. */
export async function* interruptHalfway(bytes: Buffer, interrupt: () => unknown): AsyncGenerator<Buffer> {
  const half = Math.floor(bytes.length / 2)
  yield* inChunks(bytes.subarray(0, half))
  await interrupt()
  yield* inChunks(bytes.subarray(half))
}

/** Assertions on large buffers would print them. */
export function digest(bytes: Buffer): string {
  return `${bytes.length} bytes, ${createHash('sha256').update(bytes).digest('hex')}`
}
