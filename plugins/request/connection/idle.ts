import type { Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { requestOn } from './current.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Waits for a delay that the service itself causes; meanwhile the connection does not count as idle. */
    hold(wait: Promise<void>): Promise<void>
  }
}

/** Cuts connections on which nothing moves, unless the client is waiting for this service. */
export default fp(
  async (app) => {
    const held = new WeakSet<Socket>()

    app.decorateRequest('hold', async function (this: FastifyRequest, wait: Promise<void>) {
      const { socket } = this.raw
      held.add(socket)
      try {
        await wait
      } finally {
        held.delete(socket)
        socket.setTimeout(app.server.timeout)
      }
    })

    const endIdle = (socket: Socket) => {
      const running = requestOn(socket)
      const isWaiting = running !== undefined && (running.complete || !running.reading) && !running.answering
      if (held.has(socket) || isWaiting) socket.setTimeout(app.server.timeout)
      else if (running === undefined) socket.destroy()
      else running.request.cut('no byte moved for too long')
    }

    // After a process was suspended or busy, its timers fire before it gets the bytes that the kernel has for it.
    app.server.on('timeout', (socket: Socket) => {
      const before = progressOf(socket)
      setImmediate(() => {
        if (progressOf(socket) === before) endIdle(socket)
        else socket.setTimeout(app.server.timeout)
      })
    })
  },
  { name: 'connection-idle', dependencies: ['connection-abort'] },
)

/** Changes when bytes come and when a write begins or ends, but not when a part of a write has gone out. */
function progressOf({ bytesRead, bytesWritten, writableLength }: Socket): string {
  return `${bytesRead} ${bytesWritten} ${writableLength}`
}
