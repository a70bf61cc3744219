import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import type { Call } from '../backend.ts'
import { acquireBuffer, free, releaseBuffer } from '../buffers.ts'
import { Unavailable } from '../errors.ts'

/**
 * The bytes of a response, gathered into large buffers: while the caller works on one, the next one is filled. Copied, so
 * that what the connection allocates for each of its chunks can be freed at once; and without the iterator of streams,
 * which would copy as well. A chunk is valid until the next one is asked for.
 * @param options.whole bytes of an object that is read as a whole: the last of them are given when all was well, since
 * the SDK tells at the end that it was not what its checksum says
 * @throws when the connection breaks before the end
 */
export async function* bytesOf(body: Readable, { signal, whole }: Call & { whole?: number }): AsyncGenerator<Buffer> {
  let given = 0
  let buffer = acquireBuffer()
  let filled = 0
  /** What did not fit. */
  let rest: Buffer[] = []
  let wake = () => {}

  const take = (chunk: Buffer) => {
    const copied = chunk.copy(buffer, filled)
    filled += copied
    if (copied < chunk.length) rest.push(chunk.subarray(copied))
    else free(chunk)
  }
  const onData = (chunk: Buffer) => {
    // One that fits into a buffer is not cut, so that its memory can be freed as a whole.
    const waits = rest.length > 0 || (filled > 0 && filled + chunk.length > buffer.length)
    if (waits) rest.push(chunk)
    else take(chunk)
    if (rest.length > 0) body.pause()
    wake()
  }
  const onEnd = () => wake()
  const onAbort = () => body.destroy()
  signal.addEventListener('abort', onAbort)
  body.on('data', onData)
  for (const event of ['end', 'error', 'close']) body.on(event, onEnd)
  const keepReads = freeReads(body)

  try {
    for (;;) {
      signal.throwIfAborted()
      const isLast = given + filled === whole && rest.length === 0
      if (isLast && body.destroyed && !body.readableEnded) {
        throw new Unavailable('the storage gives other bytes than it was given', { cause: body.errored })
      }
      if (filled > 0 && (!isLast || body.readableEnded)) {
        const [block, bytes] = [buffer, filled]
        given += bytes
        buffer = acquireBuffer()
        filled = 0
        const left = rest
        rest = []
        for (const chunk of left) onData(chunk)
        if (rest.length === 0) body.resume()
        try {
          yield block.subarray(0, bytes)
        } finally {
          releaseBuffer(block)
        }
      } else if (body.readableEnded) {
        return
      } else if (body.destroyed) {
        throw new Error('the connection broke before the body was complete', { cause: body.errored })
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  } finally {
    body.off('data', onData)
    signal.removeEventListener('abort', onAbort)
    keepReads()
    releaseBuffer(buffer)
    body.destroy()
  }
}

/**
 * Frees what the connection reads into as soon as the HTTP parser has copied the body out of it: to the end of the body,
 * when the connection becomes another request's, or until the function that it gives is called.
 */
function freeReads(body: Readable): () => void {
  if (!(body instanceof IncomingMessage)) return () => {}
  const { socket } = body
  const onRead = (chunk: Buffer) => free(chunk)
  const stop = () => socket.off('data', onRead)
  // Behind the parser, which listens since the request was sent.
  socket.on('data', onRead)
  body.once('end', stop)
  return stop
}
