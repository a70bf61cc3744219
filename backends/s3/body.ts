import type { Readable } from 'node:stream'
import type { Call } from '../backend.ts'
import { acquireBuffer, releaseBuffer } from '../buffers.ts'

/**
 * The bytes of a response, gathered into large buffers: while the caller works on one, the next one is filled. Copied, so
 * that what the connection allocates for each of its chunks is garbage at once, when that costs least; and without the
 * iterator of streams, which would copy as well. A chunk is valid until the next one is asked for.
 * @throws when the connection breaks before the end
 */
export async function* bytesOf(body: Readable, { signal }: Call): AsyncGenerator<Buffer> {
  let buffer = acquireBuffer()
  let filled = 0
  /** What did not fit. */
  let rest: Buffer[] = []
  let wake = () => {}

  const take = (chunk: Buffer) => {
    const copied = chunk.copy(buffer, filled)
    filled += copied
    if (copied < chunk.length) rest.push(chunk.subarray(copied))
  }
  const onData = (chunk: Buffer) => {
    if (rest.length > 0) rest.push(chunk)
    else take(chunk)
    if (rest.length > 0) body.pause()
    wake()
  }
  const onEnd = () => wake()
  const onAbort = () => body.destroy()
  signal.addEventListener('abort', onAbort)
  body.on('data', onData)
  for (const event of ['end', 'error', 'close']) body.on(event, onEnd)

  try {
    for (;;) {
      signal.throwIfAborted()
      if (filled > 0) {
        const [given, bytes] = [buffer, filled]
        buffer = acquireBuffer()
        filled = 0
        const left = rest
        rest = []
        for (const chunk of left) onData(chunk)
        if (rest.length === 0) body.resume()
        try {
          yield given.subarray(0, bytes)
        } finally {
          releaseBuffer(given)
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
    releaseBuffer(buffer)
    body.destroy()
  }
}
