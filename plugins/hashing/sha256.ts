import { createHash } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import type { Answer, Order } from './messages.ts'

/** Up to this size a hash costs less than the way to another thread. */
const smallBytes = 4 * 1024 * 1024
const blockBytes = 1024 * 1024
/** Of one file: while one is filled the others are hashed. */
const blocks = 2
/** How many files have their hash computed by the thread at once; further ones compute their own. */
const most = 4

export interface Sha256 {
  /** A promise when the caller is faster than the hash. */
  update(chunk: Buffer): Promise<void> | undefined
  /** To be called once, at the end. */
  digest(): Promise<Buffer>
  /** For who does not ask for the digest. */
  forget(): void
}

const files = new Map<number, (answer: Answer | Error) => void>()
/** Of files that are done. */
const spare: Buffer<ArrayBuffer>[] = []
let lastId = 0
let thread: Worker | undefined

/**
 * SHA-256 of a file that comes in chunks: of a large one on a thread beside the event loop, which is then free to move
 * bytes, and ready by the time when the bytes are on the disk.
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
  // Not shared with the thread: V8 copies into shared memory at a fraction of the speed.
  const newBlock = () => spare.pop() ?? Buffer.allocUnsafeSlow(blockBytes)
  let block = newBlock()
  const free = Array.from({ length: blocks - 1 }, newBlock)
  let filled = 0
  let failure: Error | undefined
  let digest: Buffer | undefined
  let wake = () => {}

  files.set(id, (answer) => {
    if (answer instanceof Error) failure = answer
    else if (answer.digest !== undefined) digest = Buffer.from(answer.digest)
    if (!(answer instanceof Error) && answer.memory !== undefined) free.push(Buffer.from(answer.memory))
    wake()
  })

  const answered = () =>
    new Promise<void>((resolve) => {
      wake = resolve
    })

  function sendBlock(end?: 'digest'): void {
    const order: Order = { id, block: { memory: block.buffer, bytes: filled }, ...(end !== undefined && { end }) }
    worker.postMessage(order, [block.buffer])
    filled = 0
  }

  async function add(chunk: Buffer): Promise<void> {
    for (let taken = 0; taken < chunk.length; ) {
      if (filled === blockBytes) {
        sendBlock()
        while (free.length === 0 && failure === undefined) await answered()
        if (failure !== undefined) throw failure
        block = free.pop() ?? block
      }
      const copied = chunk.copy(block, filled, taken)
      filled += copied
      taken += copied
    }
  }

  return {
    update(chunk) {
      if (filled + chunk.length > blockBytes) return add(chunk)
      filled += chunk.copy(block, filled)
      return undefined
    },
    async digest() {
      sendBlock('digest')
      while (digest === undefined && failure === undefined) await answered()
      files.delete(id)
      if (digest === undefined) throw failure
      spare.push(...free)
      return digest
    },
    forget() {
      const order: Order = { id, end: 'forget' }
      if (files.delete(id)) worker.postMessage(order)
    },
  }
}

function startThread(): Worker {
  if (thread !== undefined) return thread
  const worker = new Worker(new URL('./worker.ts', import.meta.url))
  worker.unref()
  worker.on('message', (answer: Answer) => files.get(answer.id)?.(answer))
  worker.on('error', (error) => {
    thread = undefined
    for (const tell of files.values()) tell(error instanceof Error ? error : new Error(String(error)))
  })
  thread = worker
  return worker
}
