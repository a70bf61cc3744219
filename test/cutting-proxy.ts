import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface CuttingProxy {
  /** The same URL, through the proxy. */
  through(url: string): string
  /** How many connections were cut so far. */
  readonly cuts: number
  /** Lets everything pass from now on. */
  stopCutting(): void
}

/** Stands before a server and resets each connection after a random number of bytes, up to `mostBytes`. */
export async function startCuttingProxy(
  t: { teardown(fn: () => unknown): void },
  { port, mostBytes }: { port: number; mostBytes: number },
): Promise<CuttingProxy> {
  let cutting = true
  let cuts = 0
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    let left = Math.ceil(Math.random() * mostBytes)
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
      from.on('end', () => to.end())
      from.on('data', (chunk) => {
        if (cutting && from === client) {
          left -= chunk.length
          if (left <= 0) {
            cuts++
            client.resetAndDestroy()
            upstream.resetAndDestroy()
            return
          }
        }
        if (!to.write(chunk)) {
          from.pause()
          to.once('drain', () => from.resume())
        }
      })
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const own = (server.address() as AddressInfo).port
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    through: (url) => url.replace(`:${port}/`, `:${own}/`),
    get cuts() {
      return cuts
    },
    stopCutting() {
      cutting = false
    },
  }
}
