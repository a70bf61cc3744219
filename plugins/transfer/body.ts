import type { IncomingMessage } from 'node:http'
import { acquireBuffer, allowTaking, free, releaseBuffer } from '../../backends/buffers.ts'
import type { Rate } from '../access/rates.ts'

/** How long a partly filled block waits for more bytes. */
const gatherMilliseconds = 10

const received = new WeakMap<IncomingMessage, number>()

/** How much of the body of a request was taken so far; undefined where nobody has read it by `bodyOf`. */
export function receivedOf(raw: IncomingMessage): number | undefined {
  return received.get(raw)
}

interface BodyOptions {
  end?: AbortSignal
  /** How fast the blocks are taken. With a rate they are small, since each is held for long. */
  rate?: Rate | undefined
}

/**
 * The body of a request in large blocks, or in smaller ones when no more comes within a moment; the next block is
 * filled while the caller has one. A block is the caller's until it asks for the next one, and its memory may be
 * transferred. The body ends early, as if it were complete, when `end` aborts, and throws when the connection breaks
 * before its end. A caller that leaves the iteration early keeps the connection open for the answer.
 */
export async function* bodyOf(raw: IncomingMessage, { end, rate }: BodyOptions = {}): AsyncGenerator<Buffer> {
  const blocks = createBlocks(rate === undefined ? 'large' : 'small')
  let waiting: (() => void) | undefined
  const wake = () => waiting?.()
  let due = false
  const timer = setTimeout(() => {
    due = true
    wake()
  }, gatherMilliseconds)
  const gather = () => {
    due = false
    timer.refresh()
  }
  const onData = (chunk: Buffer) => {
    if (blocks.isEmpty()) gather()
    blocks.add(chunk)
    free(chunk)
    if (blocks.hasFull() && waiting === undefined) raw.pause()
    else if (blocks.hasFull()) wake()
  }
  raw.on('data', onData)
  for (const event of ['end', 'error', 'close']) raw.on(event, wake)
  end?.addEventListener('abort', wake)
  try {
    for (;;) {
      const over = raw.readableEnded || raw.destroyed || end?.aborted
      const block = blocks.take(due || over ? 'any' : 'full')
      if (block !== undefined) {
        gather()
        // No bytes are asked for after `end`: a client that goes on sending would keep the body from ending.
        if (end?.aborted) raw.pause()
        else if (raw.isPaused()) raw.resume()
        received.set(raw, (received.get(raw) ?? 0) + block.length)
        yield block
      } else if (raw.readableEnded || end?.aborted) {
        return
      } else if (raw.destroyed) {
        throw new Error('the connection broke before the body was complete', { cause: raw.errored })
      } else {
        await new Promise<void>((resolve) => {
          waiting = resolve
        })
        waiting = undefined
      }
    }
  } finally {
    raw.off('data', onData)
    for (const event of ['end', 'error', 'close']) raw.off(event, wake)
    end?.removeEventListener('abort', wake)
    raw.pause()
    clearTimeout(timer)
    blocks.end()
  }
}

/** Gathers chunks in blocks, which are given out one at a time. */
function createBlocks(size: 'large' | 'small') {
  const full: Buffer[] = []
  let filling: Buffer | undefined
  let filled = 0
  let given: Buffer | undefined

  const release = (block: Buffer | undefined) => {
    if (block !== undefined) releaseBuffer(block)
  }

  return {
    isEmpty: () => filled === 0,
    hasFull: () => full.length > 0,

    add(chunk: Buffer): void {
      for (let taken = 0; taken < chunk.length; ) {
        filling ??= acquireBuffer(size)
        const copied = chunk.copy(filling, filled, taken)
        taken += copied
        filled += copied
        if (filled < filling.length) continue
        full.push(filling)
        filling = undefined
        filled = 0
      }
    },

    /** Gives the next block and takes back the one before. */
    take(which: 'full' | 'any'): Buffer | undefined {
      release(given)
      given = full.shift()
      if (given !== undefined) return allowTaking(given)
      if (which === 'full' || filled === 0) return undefined
      given = filling
      const part = filling?.subarray(0, filled)
      filling = undefined
      filled = 0
      return part
    },

    end(): void {
      for (const block of [given, filling, ...full]) release(block)
    },
  }
}
