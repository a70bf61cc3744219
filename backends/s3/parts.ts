import type { Call } from '../backend.ts'
import { Pool } from '../pool.ts'
import { eachInOrder } from './each.ts'

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

interface Part {
  index: number
  body: Buffer
  /** What it is a part of, if that is one of the large buffers. */
  memory: Buffer | undefined
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
  const held = new Set<Buffer>()
  const last: LastPart = { index: begin?.index ?? 0, body: Buffer.allocUnsafe(0), bytes: 0 }

  async function* parts({ signal }: Call): AsyncGenerator<Part> {
    let buffer = last.body
    let memory: Buffer | undefined
    let filled = 0

    const grow = async (wanted: number) => {
      if (wanted <= smallBytes && memory === undefined) {
        const room = Buffer.allocUnsafe(Math.min(smallBytes, partBytes))
        buffer.copy(room, 0, 0, filled)
        buffer = room
        return
      }
      memory = await buffers.acquire(signal)
      held.add(memory)
      buffer.copy(memory, 0, 0, filled)
      buffer = memory.subarray(0, partBytes)
    }

    if (begin !== undefined && begin.bytes > 0) {
      await grow(begin.bytes)
      await begin.fill(buffer.subarray(0, begin.bytes))
      filled = begin.bytes
    }
    for await (const chunk of source) {
      signal.throwIfAborted()
      last.bytes += chunk.length
      for (let taken = 0; taken < chunk.length; ) {
        if (filled === partBytes) {
          yield { index: last.index++, body: buffer.subarray(0, filled), memory }
          buffer = last.body
          memory = undefined
          filled = 0
        }
        const wanted = Math.min(partBytes, filled + chunk.length - taken)
        if (wanted > buffer.length) await grow(wanted)
        const copied = chunk.copy(buffer, filled, taken)
        filled += copied
        taken += copied
      }
    }
    last.body = buffer.subarray(0, filled)
  }

  try {
    await eachInOrder(parts, partsAtOnce, { signal }, async ({ index, body, memory }) => {
      try {
        await store(index, body)
      } finally {
        if (memory !== undefined && held.delete(memory)) buffers.release(memory)
      }
    })
    return await finish(last)
  } finally {
    for (const memory of held) buffers.release(memory)
  }
}
