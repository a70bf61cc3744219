import cluster from 'node:cluster'
import type { FastifyBaseLogger } from 'fastify'

export const closeMessage = 'close'
export const listeningMessage = 'listening'

/** The signals of a process under a supervisor, which come to both when they are those of a terminal or of systemd. */
export const supervisedSignals = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const

/** Has the process close, once, when its supervisor says so or is gone, or on a signal; the second signal ends it. */
export function obeySupervisor(close: () => void, logger: FastifyBaseLogger): void {
  let asked = false
  const closeOnce = () => {
    if (!asked) close()
    asked = true
  }
  process.on('message', (message) => {
    if (message === closeMessage) closeOnce()
  })
  process.on('SIGHUP', () => {})
  process.once('SIGINT', closeOnce).once('SIGTERM', closeOnce)

  const { worker } = cluster
  worker?.once('disconnect', () => {
    // Otherwise Node ends the process here and now.
    worker.exitedAfterDisconnect = true
    logger.warn('the supervisor is gone')
    closeOnce()
  })
}

/** Tells the supervisor that the process serves. */
export function reportListening(): void {
  process.send?.(listeningMessage)
}
