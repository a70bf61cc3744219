import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Teardown } from '../server.ts'

export interface Proxy {
  port: number
  /** As a cut cable does: nothing passes, and nobody is told. */
  cut(): void
  /** The same, for the connections that there are; later ones pass. */
  strand(): void
  /** Lets everything pass again that waits, as TCP does after a cut. */
  mend(): void
}

/**
 * Stands between one process and its PostgreSQL.
 * @param change what the process gets in the place of what the server says
 */
export async function startProxy(t: Teardown, port: number, change = (chunk: Buffer): Buffer => chunk): Promise<Proxy> {
  const sockets = new Set<Socket>()
  let isCut = false
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      if (isCut) from.pause()
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
      from.on('end', () => to.end())
      from.on('data', (chunk) => to.write(from === upstream ? change(chunk) : chunk))
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    cut() {
      isCut = true
      for (const socket of sockets) socket.pause()
    },
    strand() {
      for (const socket of sockets) socket.pause()
    },
    mend() {
      isCut = false
      for (const socket of sockets) socket.resume()
    },
  }
}
