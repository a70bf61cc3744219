import cluster from 'node:cluster'
import type { DestinationStream } from 'pino'
import { writeToStderr } from '../plugins/request/log-stream.ts'
import { relayLines } from './relay-lines.ts'
import { closeMessage, listeningMessage } from './supervised.ts'

export interface End {
  code?: number
  signal?: string
  err?: Error
}

/** A process of the service, as its supervisor sees it. */
export interface Worker {
  readonly pid: number | undefined
  readonly listens: boolean
  /** It was told to leave. */
  readonly leaving: boolean
  /** True as soon as it listens, false when it ended before. */
  readonly listening: Promise<boolean>
  /** When all of its log is read. */
  readonly ended: Promise<End>
  /** Says something to it; one that is gone does not hear it. */
  send(message: object): void
  onMessage(listener: (message: unknown) => void): void
  leave(): void
  kill(): void
}

/** @param log takes the lines of its log, unless it has the terminal itself */
export function startWorker(log: DestinationStream): Worker {
  const forked = cluster.fork()
  const { process: child } = forked
  const state = { listens: false, leaving: false }
  if (child.stdout !== null) relayLines(child.stdout, log)
  child.stderr?.setEncoding('utf8').on('data', writeToStderr)

  const ended = new Promise<End>((resolve) => {
    child.once('close', (code, signal) => resolve({ code: code ?? undefined, signal: signal ?? undefined }))
    // Also of a process that could not be started, which ends in no other way.
    forked.on('error', (err) => child.pid === undefined && resolve({ err }))
  })
  const listening = new Promise<boolean>((resolve) => {
    forked.on('message', (message: unknown) => {
      if (message !== listeningMessage) return
      state.listens = true
      resolve(true)
    })
    ended.then(() => resolve(false))
  })

  return {
    pid: child.pid,
    get listens() {
      return state.listens
    },
    get leaving() {
      return state.leaving
    },
    listening,
    ended,
    send: (message) => void forked.send(message, () => {}),
    onMessage: (listener) => void forked.on('message', listener),
    leave() {
      state.leaving = true
      // A signal may reach the worker a second time, as one of the whole process group, and would then end it at once.
      if (state.listens) forked.send(closeMessage, () => {})
      else child.kill('SIGTERM')
    },
    kill: () => child.kill('SIGKILL'),
  }
}
