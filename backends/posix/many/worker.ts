import { parentPort } from 'node:worker_threads'
import type { FromThread, ToThread } from './messages.ts'
import { failureOf, readFiles } from './read-files.ts'
import { readSmallFiles } from './read-small.ts'

parentPort?.on('message', (question: ToThread) => {
  try {
    const result = answer(question)
    send({ kind: 'done', result }, [result])
  } catch (error) {
    send({ kind: 'failed', failure: failureOf(error) })
  }
})

function answer(question: ToThread): ArrayBuffer {
  switch (question.kind) {
    case 'read':
      return readFiles(question.root, question.files)
    case 'small':
      return readSmallFiles(question.locations)
  }
}

function send(message: FromThread, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer)
}
