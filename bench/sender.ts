import { once } from 'node:events'
import { connect } from 'node:net'

const block = Buffer.alloc(1024 * 1024, 'storage-proxy ')

/** Sends a body of so many bytes, with as little work of its own as can be, and rejects unless it is accepted. */
export async function send(method: string, url: string, bytes: number, headers: Record<string, string> = {}) {
  const { host, hostname, port, pathname, search } = new URL(url)
  const socket = connect(Number(port), hostname)
  const answer = new Promise<string>((resolve, reject) => {
    let text = ''
    socket.on('error', reject)
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      if (text.includes('\r\n\r\n')) resolve(text)
    })
    socket.on('close', () => reject(new Error(`no answer: ${text}`)))
  })
  answer.catch(() => {}) // Awaited below.
  const fields = { host, connection: 'close', 'content-length': String(bytes), ...headers }
  const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`${method} ${pathname}${search} HTTP/1.1\r\n${head.join('')}\r\n`)
  for (let left = bytes; left > 0; left -= block.length) {
    if (!socket.write(block.subarray(0, Math.min(left, block.length))))
      await Promise.race([once(socket, 'drain'), answer])
  }
  const text = await answer
  socket.destroy()
  if (!/^HTTP\/1\.1 2/.test(text)) throw new Error(text)
}
