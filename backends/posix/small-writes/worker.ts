import { parentPort } from 'node:worker_threads'
import type { FromThread, ToThread } from './messages.ts'
import { storeFiles } from './store-files.ts'

parentPort?.on('message', (question: ToThread) => {
  storeFiles(question, (answer: FromThread) => parentPort?.postMessage(answer))
})
