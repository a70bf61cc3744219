import { connect } from 'node:net'

const separator = Buffer.from('\r\n\r\n')
const lastChunk = '0\r\n\r\n'

export interface Limit {
  /** Reads no faster than this, in bytes per second. */
  bytesPerSecond?: number
  /** Goes away after so many bytes. */
  bytes?: number
}

/**
 * Downloads and throws away, with as little work of its own as can be: one reused buffer a connection. Gives the bytes
 * of the body, those of its chunked framing too, and rejects when they are not those announced.
 */
export function sink(url: string, { bytesPerSecond, bytes = Number.POSITIVE_INFINITY }: Limit = {}): Promise<number> {
  const { hostname, port, pathname, search } = new URL(url)
  return new Promise((resolve, reject) => {
    let head = Buffer.alloc(0)
    let expected: number | undefined
    let received = 0
    let end = ''
    const started = performance.now()

    const callback = (length: number, buffer: Buffer): boolean => {
      if (expected === undefined) {
        head = Buffer.concat([head, buffer.subarray(0, length)])
        const headEnd = head.indexOf(separator)
        if (headEnd < 0) return true
        const fields = head.toString('latin1', 0, headEnd)
        if (!fields.startsWith('HTTP/1.1 200')) reject(new Error(fields))
        expected = Number(/^content-length: (\d+)/im.exec(fields)?.[1] ?? Number.POSITIVE_INFINITY)
        received = head.length - headEnd - separator.length
      } else {
        received += length
      }
      if (expected === Number.POSITIVE_INFINITY)
        end = (end + buffer.toString('latin1', Math.max(0, length - lastChunk.length), length)).slice(-lastChunk.length)
      if (received >= Math.min(expected, bytes)) socket.destroy()
      else if (bytesPerSecond !== undefined) {
        const ahead = (received / bytesPerSecond) * 1000 - (performance.now() - started)
        if (ahead > 0) {
          setTimeout(() => socket.resume(), ahead)
          return false
        }
      }
      return true
    }

    const size = bytesPerSecond === undefined ? 1024 * 1024 : 64 * 1024
    const socket = connect({
      host: hostname,
      port: Number(port),
      onread: { buffer: Buffer.alloc(size), callback: onread },
    })
    function onread(length: number, buffer: Uint8Array): boolean {
      return callback(length, Buffer.from(buffer.buffer, buffer.byteOffset, length))
    }
    socket.write(`GET ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: close\r\n\r\n`)
    socket.on('error', reject)
    socket.on('close', () => {
      const whole = received >= Math.min(expected ?? Number.NaN, bytes) || end === lastChunk
      if (whole) resolve(received)
      else reject(new Error(`${received} bytes came instead of ${expected}`))
    })
  })
}
