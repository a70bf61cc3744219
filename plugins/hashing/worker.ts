import { createHash, type Hash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'
import type { Answer, Order } from './messages.ts'

// Hashes the blocks of many files, each in the order in which they come.
const hashes = new Map<number, Hash>()

parentPort?.on('message', ({ id, block, end }: Order) => {
  const hash = hashes.get(id) ?? createHash('sha256')
  if (block !== undefined) hash.update(new Uint8Array(block.memory, 0, block.bytes))
  if (end === undefined) hashes.set(id, hash)
  else hashes.delete(id)
  const answer: Answer = { id, memory: block?.memory, digest: end === 'digest' ? hash.digest() : undefined }
  parentPort?.postMessage(answer, block === undefined ? [] : [block.memory])
})
