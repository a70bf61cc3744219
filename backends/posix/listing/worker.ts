import { parentPort } from 'node:worker_threads'
import { errnoOf } from '../errno.ts'
import { lstatNames } from './lstat-names.ts'
import type { FromThread, ToThread } from './messages.ts'
import { selectNames } from './select-names.ts'

parentPort?.on('message', (question: ToThread) => {
  try {
    answer(question)
  } catch (error) {
    send({ kind: 'failed', failure: { message: String(error), path: '', errno: errnoOf(error), sourceChanged: false } })
  }
})

function answer(question: ToThread): void {
  if (question.kind === 'lstat') {
    const attributes = lstatNames(question)
    send({ kind: 'lstat', attributes }, [attributes])
  } else {
    const { run, isComplete } = selectNames(question)
    // The memory of a small buffer is shared with others, and cannot be given away.
    const bytes = new Uint8Array(run.bytes).buffer
    send({ kind: 'names', bytes, count: run.count, isComplete }, [bytes])
  }
}

function send(message: FromThread, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer)
}
