import type { Duplex } from 'node:stream'

/** How long a client that was told that nothing more comes may go on sending. */
const lingerMilliseconds = 5000

/**
 * Closes a connection once all is sent that was written to it. Until the client closes it too, what it still sends is
 * thrown away: with bytes that nobody read, the close would be a reset, and the client lose its last answers (RFC 9112,
 * section 9.6).
 */
export function linger(socket: Duplex): void {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), lingerMilliseconds)
  socket.once('close', () => clearTimeout(timer))
  // Node itself closes it at once after an answer that was the last one.
  socket.off('finish', socket.destroy)
  if (socket.writable) socket.end()
  socket.resume()
}
