import { createHash } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import { acquireBuffer, mayTake, releaseBuffer } from '../../backends/buffers.ts'
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

const files = new Map<number, (answer: Answer | Error) => void>()
let lastId = 0
let thread: Worker | undefined

/**
 * SHA-256 of a file that comes in chunks. A large one is hashed on a thread beside the event loop, which is then free
 * to move bytes, and the digest is ready by the time the bytes are on the disk.
 */
export function createSha256(expectedBytes = 0): Sha256 {
  return expectedBytes > smallBytes && files.size < most ? onThread(startThread()) : onEventLoop()
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

function onThread(worker: Worker): Sha256 {
  const id = ++lastId
  let block: Buffer | undefined
  let filled = 0
  let sent = 0
  let failure: Error | undefined
  let digest: Buffer | undefined
  let wake = () => {}

  files.set(id, (answer) => {
    if (answer instanceof Error) failure = answer
    else if ('digest' in answer) digest = Buffer.from(answer.digest)
    else sent--
    wake()
  })

  worker.ref()
  /** Lets the process end when nothing is hashed any more. */
  const leave = () => {
    const known = files.delete(id)
    if (files.size === 0) worker.unref()
    return known
  }

  const answered = () =>
    new Promise<void>((resolve) => {
      wake = resolve
    })

  function send({ buffer, length: bytes }: Buffer): void {
    if (!(buffer instanceof ArrayBuffer)) throw new Error('shared memory does not come back')
    worker.postMessage({ id, block: { memory: buffer, bytes } } satisfies Order, [buffer])
    sent++
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
    while (sent > blocksAhead && failure === undefined) await answered()
    if (failure !== undefined) throw failure
  }

  return {
    update(chunk) {
      add(chunk)
      return sent > blocksAhead || failure !== undefined ? caughtUp() : undefined
    },
    async digest() {
      sendBlock()
      worker.postMessage({ id, end: 'digest' } satisfies Order)
      while (digest === undefined && failure === undefined) await answered()
      leave()
      if (digest === undefined) throw failure
      return digest
    },
    forget() {
      if (!leave()) return
      if (block !== undefined) releaseBuffer(block)
      worker.postMessage({ id, end: 'forget' } satisfies Order)
    },
  }
}

function startThread(): Worker {
  if (thread !== undefined) return thread
  const worker = new Worker(new URL('./worker.ts', import.meta.url))
  worker.on('message', (answer: Answer) => {
    if ('memory' in answer) releaseBuffer(Buffer.from(answer.memory))
    files.get(answer.id)?.(answer)
  })
  worker.on('error', (error) => {
    thread = undefined
    for (const tell of files.values()) tell(error instanceof Error ? error : new Error(String(error)))
  })
  thread = worker
  return worker
}
