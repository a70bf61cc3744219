import type { FastifyRequest } from 'fastify'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** It does no harm when the client misses an early answer, since its next request gets the same one. */
    mayMissAnswer?: boolean
  }
}

/** How long the rest of a request's body is read and thrown away after an early answer. */
const drainMilliseconds = 30_000
/** The same where the answer may be missed. Chromium reads one only when all is sent or the connection is cut. */
const shortDrainMilliseconds = 1000

/**
 * Reads what a client still sends after its answer. The client does not read the answer yet; closing the connection now
 * would reset it, and the answer would be lost (RFC 9112, section 9.6).
 */
export function drain({ raw, log, routeOptions, server }: FastifyRequest): void {
  if (raw.complete || raw.destroyed) return
  const { socket } = raw
  // After the last answer on a connection Node ends our side of it, and would then close it.
  socket.off('finish', socket.destroy)
  raw.once('end', () => {
    if (socket.writableEnded || !server.server.listening) socket.destroySoon()
  })
  raw.unpipe()
  raw.resume()
  const milliseconds = routeOptions.config.mayMissAnswer ? shortDrainMilliseconds : drainMilliseconds
  const timer = setTimeout(() => {
    log.info('connection closed, since the body did not come to its end after the answer')
    raw.destroy()
  }, milliseconds)
  raw.once('close', () => clearTimeout(timer))
}
