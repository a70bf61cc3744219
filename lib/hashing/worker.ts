import { createHash, type Hash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'
import type { Answer, Order } from './messages.ts'

// Hashes the blocks of many files, each in the order in which they come.
const hashes = new Map<number, Hash>()

parentPort?.on('message', (order: Order) => {
  const { id } = order
  const hash = hashes.get(id) ?? createHash('sha256')
  if ('memory' in order) {
    const { memory, bytes } = order
    hashes.set(id, hash.update(new Uint8Array(memory, 0, bytes)))
    answer({ id, memory }, [memory])
  } else {
    hashes.delete(id)
    answer({ id, digest: hash.digest() })
  }
})

function answer(message: Answer, transferred: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transferred)
}
