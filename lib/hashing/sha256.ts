import { createHash } from 'node:crypto'
import { extname } from 'node:path'
import { acquireBuffer, loseBuffer, mayTake, releaseBuffer } from '../../backends/buffers.ts'
import { type Thread, ThreadPool } from '../../backends/thread-pool.ts'
import type { Answer, Order } from './messages.ts'

/** Up to this size hashing costs less than handing the bytes to another thread. */
const smallBytes = 4 * 1024 * 1024
/** How many blocks of one file the thread may have before the caller has to wait. */
const blocksAhead = 2
/** Each hashes one file at a time; further files are hashed on the event loop. */
const mostThreads = 4

export interface Sha256 {
  /** A promise when the caller is faster than the hash. Takes the memory of a chunk where that is allowed. */
  update(chunk: Buffer): Promise<void> | undefined
  /** To be called once, at the end. */
  digest(): Promise<Buffer>
  /** For a caller that does not ask for the digest. */
  forget(): void
}

const threads = new ThreadPool<Order, Answer>(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
  usual: mostThreads,
  most: mostThreads,
})

/**
 * SHA-256 of a file that comes in chunks. A large one is hashed on a thread beside the event loop, which is then free
 * to move bytes, and the digest is ready by the time the bytes are on the disk.
 */
export function createSha256(expectedBytes = 0): Sha256 {
  const thread = expectedBytes > smallBytes ? threads.acquireNow() : undefined
  return thread === undefined ? onEventLoop() : onThread(thread)
}

function onEventLoop(): Sha256 {
  const hash = createHash('sha256')
  return {
    update(chunk) {
      hash.update(chunk)
      return undefined
    },
    digest: async () => hash.digest(),
    forget() {},
  }
}

function onThread(thread: Thread<Order, Answer>): Sha256 {
  let block: Buffer | undefined
  let filled = 0
  /** The sizes of the blocks that the thread has. */
  const sent: number[] = []
  let ended = false
  let failure: Error | undefined
  let digest: Buffer | undefined
  let wake = () => {}

  thread.take({
    message(answer) {
      if ('memory' in answer) {
        sent.shift()
        releaseBuffer(Buffer.from(answer.memory))
      } else {
        digest = Buffer.from(answer.digest)
        threads.release(thread)
      }
      wake()
    },
    ended(error) {
      failure = error
      for (const bytes of sent.splice(0)) loseBuffer(bytes)
      wake()
    },
  })

  const answered = () =>
    new Promise<void>((resolve) => {
      wake = resolve
    })

  function send({ buffer, length: bytes }: Buffer): void {
    if (!(buffer instanceof ArrayBuffer)) throw new Error('shared memory does not come back')
    sent.push(buffer.byteLength)
    thread.send({ memory: buffer, bytes }, [buffer])
  }

  function sendBlock(): void {
    if (block !== undefined) send(block.subarray(0, filled))
    block = undefined
    filled = 0
  }

  function add(chunk: Buffer): void {
    if (mayTake(chunk)) {
      sendBlock()
      send(chunk)
      return
    }
    for (let taken = 0; taken < chunk.length; ) {
      block ??= acquireBuffer()
      const copied = chunk.copy(block, filled, taken)
      filled += copied
      taken += copied
      if (filled === block.length) sendBlock()
    }
  }

  async function caughtUp(): Promise<void> {
    while (sent.length > blocksAhead && failure === undefined) await answered()
    if (failure !== undefined) throw failure
  }

  /** The thread is free for another file once it has answered this. */
  function end(): void {
    ended = true
    if (failure === undefined) thread.send('end')
  }

  return {
    update(chunk) {
      if (failure === undefined) add(chunk)
      return sent.length > blocksAhead || failure !== undefined ? caughtUp() : undefined
    },
    async digest() {
      if (failure === undefined) sendBlock()
      end()
      while (digest === undefined && failure === undefined) await answered()
      if (digest === undefined) throw failure
      return digest
    },
    forget() {
      if (block !== undefined) releaseBuffer(block)
      block = undefined
      if (!ended) end()
    },
  }
}
