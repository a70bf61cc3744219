import { createHash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'
import type { Answer, Order } from './messages.ts'

// Hashes one file after the other.
let hash = createHash('sha256')

parentPort?.on('message', (order: Order) => {
  if (order === 'end') {
    answer({ digest: hash.digest() })
    hash = createHash('sha256')
  } else {
    const { memory, bytes } = order
    hash.update(new Uint8Array(memory, 0, bytes))
    answer({ memory }, [memory])
  }
})

function answer(message: Answer, transferred: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transferred)
}
