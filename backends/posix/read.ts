import { acquireBuffer, releaseBuffer } from '../buffers.ts'
import { SourceChanged } from '../errors.ts'
import { translateErrors } from './errno.ts'
import { read } from './files.ts'

/** Up to this size a buffer of its own costs less than the pool. */
export const smallFileBytes = 64 * 1024

/** The bytes of an open file; each chunk is valid until the next one is asked for. */
export async function* readChunks(fd: number, path: string, start: number, end: number): AsyncGenerator<Buffer> {
  if (end - start <= smallFileBytes) {
    if (end > start) yield await fill(fd, path, Buffer.allocUnsafe(end - start), start)
    return
  }
  yield* readAhead(fd, path, start, end)
}

/** While the caller works on one chunk, the next one is read into a second buffer. */
async function* readAhead(fd: number, path: string, start: number, end: number): AsyncGenerator<Buffer> {
  let position = start
  let current: Buffer | undefined
  let next: { buffer: Buffer; filled: Promise<Buffer> } | undefined

  const readNext = () => {
    if (position >= end) return undefined
    const buffer = acquireBuffer()
    const length = Math.min(buffer.length, end - position)
    const filled = fill(fd, path, buffer.subarray(0, length), position)
    filled.catch(() => {}) // Awaited below; a failure must not count as unhandled until then.
    position += length
    return { buffer, filled }
  }

  try {
    next = readNext()
    while (next !== undefined) {
      const chunk = await next.filled
      current = next.buffer
      next = readNext()
      yield chunk
      releaseBuffer(current)
      current = undefined
    }
  } finally {
    if (current !== undefined) releaseBuffer(current)
    if (next !== undefined) {
      await next.filled.catch(() => {})
      releaseBuffer(next.buffer)
    }
  }
}

async function fill(fd: number, path: string, buffer: Buffer, position: number): Promise<Buffer> {
  let filled = 0
  while (filled < buffer.length) {
    const { bytesRead } = await translateErrors(path, () =>
      read(fd, buffer, filled, buffer.length - filled, position + filled),
    )
    if (bytesRead === 0) throw new SourceChanged(`${path} became shorter while it was read`)
    filled += bytesRead
  }
  return buffer
}
