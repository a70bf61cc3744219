import { createHash } from 'node:crypto'
import { extname } from 'node:path'
import { acquireBuffer, loseBuffer, mayTake, releaseBuffer } from '../../backends/buffers.ts'
import { type Listener, type Thread, ThreadPool } from '../../backends/thread-pool.ts'
import type { Answer, Order } from './messages.ts'

/** Up to this size hashing costs less than handing the bytes to another thread. */
const smallBytes = 4 * 1024 * 1024
/** How many blocks of one file the thread may have before the caller has to wait. */
const blocksAhead = 2
/** How many files the thread hashes at once; any others are hashed on the event loop. */
const most = 4

export interface Sha256 {
  /** A promise when the caller is faster than the hash. Takes the memory of a chunk where that is allowed. */
  update(chunk: Buffer): Promise<void> | undefined
  /** To be called once, at the end. */
  digest(): Promise<Buffer>
  /** For a caller that does not ask for the digest. */
  forget(): void
}

const threads = new ThreadPool<Order, Answer>(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
  usual: 1,
  most: 1,
})

/** The files that share the thread: one for each would take 16 MiB more. */
const files = new Map<number, Listener<Answer>>()
let lastId = 0
let shared: Thread<Order, Answer> | undefined

/**
 * SHA-256 of a file that comes in chunks. A large one is hashed on a thread beside the event loop, which is then free
 * to move bytes, and the digest is ready by the time the bytes are on the disk.
 */
export function createSha256(expectedBytes = 0): Sha256 {
  const thread = expectedBytes > smallBytes && files.size < most ? shareThread() : undefined
  return thread === undefined ? hashOnEventLoop() : hashOnThread(thread)
}

function hashOnEventLoop(): Sha256 {
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

function shareThread(): Thread<Order, Answer> | undefined {
  if (shared !== undefined) return shared
  shared = threads.acquireNow()
  shared?.take({
    message: (answer) => files.get(answer.id)?.message(answer),
    ended(error) {
      shared = undefined
      for (const file of files.values()) file.ended(error)
      files.clear()
    },
  })
  return shared
}

/** To be called when a file has all its answers. */
function leaveThread(id: number): void {
  files.delete(id)
  if (files.size > 0 || shared === undefined) return
  threads.release(shared)
  shared = undefined
}

function hashOnThread(thread: Thread<Order, Answer>): Sha256 {
  const id = ++lastId
  let block: Buffer | undefined
  let filled = 0
  /** The sizes of the blocks that the thread has. */
  const sent: number[] = []
  let ended = false
  let failure: Error | undefined
  let digest: Buffer | undefined
  let wake = () => {}

  files.set(id, {
    message(answer) {
      if ('memory' in answer) {
        sent.shift()
        releaseBuffer(Buffer.from(answer.memory))
      } else {
        digest = Buffer.from(answer.digest)
        leaveThread(id)
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
    thread.send({ id, memory: buffer, bytes }, [buffer])
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

  async function catchUp(): Promise<void> {
    while (sent.length > blocksAhead && failure === undefined) await answered()
    if (failure !== undefined) throw failure
  }

  function end(): void {
    ended = true
    if (failure === undefined) thread.send({ id, end: true })
  }

  return {
    update(chunk) {
      if (failure === undefined) add(chunk)
      return sent.length > blocksAhead || failure !== undefined ? catchUp() : undefined
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
