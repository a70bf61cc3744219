import { parentPort } from 'node:worker_threads'
import type { FromThread, ToThread } from './messages.ts'
import { storeFiles } from './store-files.ts'

parentPort?.on('message', (question: ToThread) => {
  const answer: FromThread = { outcomes: storeFiles(question) }
  parentPort?.postMessage(answer)
})
