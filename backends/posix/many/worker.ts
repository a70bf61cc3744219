import { parentPort } from 'node:worker_threads'
import { lstatNames } from './lstat-names.ts'
import type { FromThread, ToThread } from './messages.ts'
import { failureOf, readFiles } from './read-files.ts'

parentPort?.on('message', (question: ToThread) => {
  try {
    const result = question.kind === 'read' ? readFiles(question.root, question.files) : lstatNames(question)
    send({ kind: 'done', result }, [result])
  } catch (error) {
    send({ kind: 'failed', failure: failureOf(error) })
  }
})

function send(message: FromThread, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer)
}
