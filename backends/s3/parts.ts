import type { Call } from '../backend.ts'
import { Pool } from '../pool.ts'

/** The memory that parts of uploads gather in. */
export class PartBuffers extends Pool<Buffer> {
  readonly bytes: number

  constructor(bytes: number, limit: number) {
    super(() => Buffer.allocUnsafeSlow(bytes), limit)
    this.bytes = bytes
  }
}

/** What fits into so little takes none of the large buffers, so that small files do not wait for them. */
const smallBytes = 64 * 1024
/** Parts of one upload under way at once. */
const partsAtOnce = 4

interface Gathering extends Call {
  buffers: PartBuffers
  /** Bytes of a part; no more than a buffer has. */
  partBytes: number
  /** Stores a part, of which another one is to follow. Its memory is used again after that. */
  store(index: number, body: Buffer): Promise<void>
  /** What the first part begins with, when bytes are appended to one that is there. */
  begin?: { index: number; bytes: number; fill(buffer: Buffer): Promise<void> }
}

/** The last part, which is full at most, and may be the only one. */
export interface LastPart {
  index: number
  body: Buffer
  /** Bytes that came, in all. */
  bytes: number
}

/**
 * Gathers what comes into parts and stores them, several at once, up to the last one: that is given to `finish`, when
 * the others are stored.
 */
export async function gather<T>(
  source: AsyncIterable<Buffer>,
  { buffers, partBytes, store, begin, signal }: Gathering,
  finish: (last: LastPart) => Promise<T>,
): Promise<T> {
  let index = begin?.index ?? 0
  let buffer: Buffer = Buffer.allocUnsafe(0)
  let large: Buffer | undefined
  let filled = 0
  let bytes = 0
  const storing = new Set<Promise<void>>()
  const failed = new AbortController()

  const grow = async (wanted: number) => {
    if (wanted <= smallBytes && large === undefined) {
      const room = Buffer.allocUnsafe(Math.min(smallBytes, partBytes))
      buffer.copy(room, 0, 0, filled)
      buffer = room
      return
    }
    large = await buffers.acquire(signal)
    buffer.copy(large, 0, 0, filled)
    buffer = large.subarray(0, partBytes)
  }

  const send = async () => {
    while (storing.size >= partsAtOnce) await Promise.race(storing)
    failed.signal.throwIfAborted()
    const [body, memory] = [buffer.subarray(0, filled), large]
    const stored = store(index++, body)
      .catch((error) => failed.abort(error))
      .finally(() => {
        if (memory !== undefined) buffers.release(memory)
        storing.delete(stored)
      })
    storing.add(stored)
    large = undefined
    buffer = Buffer.allocUnsafe(0)
    filled = 0
  }

  try {
    if (begin !== undefined && begin.bytes > 0) {
      await grow(begin.bytes)
      await begin.fill(buffer.subarray(0, begin.bytes))
      filled = begin.bytes
    }
    for await (const chunk of source) {
      signal.throwIfAborted()
      failed.signal.throwIfAborted()
      bytes += chunk.length
      for (let taken = 0; taken < chunk.length; ) {
        if (filled === partBytes) await send()
        const wanted = Math.min(partBytes, filled + chunk.length - taken)
        if (wanted > buffer.length) await grow(wanted)
        const copied = chunk.copy(buffer, filled, taken)
        filled += copied
        taken += copied
      }
    }
    signal.throwIfAborted()
    await Promise.all(storing)
    failed.signal.throwIfAborted()
    return await finish({ index, body: buffer.subarray(0, filled), bytes })
  } finally {
    await Promise.all(storing)
    if (large !== undefined) buffers.release(large)
  }
}
