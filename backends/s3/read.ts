import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Call, OpenFile } from '../backend.ts'
import { acquireBuffer, free, releaseBuffer } from '../buffers.ts'
import { BackendError, IsADirectory, NotFound, PreconditionFailed, SourceChanged, Unavailable } from '../errors.ts'
import type { Bucket, StoredObject } from './bucket.ts'
import { directoryExists, fileEntry } from './entry.ts'
import { freeReads } from './middlewares/free-reads.ts'
import type { Store } from './store.ts'

/** How often a body may end early without having given a single byte more. */
const fruitlessAttempts = 4
const pauseMilliseconds = 200

/** @throws {NotFound} @throws {IsADirectory} */
export async function openEntry(store: Store, folder: string, path: string, call: Call): Promise<OpenFile> {
  const key = store.keys.entry(folder, path)
  const object = await store.bucket.head(key, call)
  if (object !== undefined) {
    return {
      entry: fileEntry(path, object),
      chunks: (range) => readChunks(store.bucket, object, path, range, call),
      close: () => {},
    }
  }
  if (await directoryExists(store, key, call)) throw new IsADirectory(`${path} is a directory`)
  throw new NotFound(`${path} does not exist`)
}

/**
 * The bytes of an object. Where a body ends early, by a lost connection or because the reader was slow, another request
 * goes on from there; all of them are for the very object that was opened.
 */
export async function* readChunks(
  bucket: Bucket,
  object: Pick<StoredObject, 'key' | 'etag' | 'size'>,
  path: string,
  { start, end }: { start: number; end: number },
  { signal }: Call,
): AsyncGenerator<Buffer> {
  let position = start
  for (let attempt = 1; position < end; attempt++) {
    if (attempt > 1) await sleep(Math.random() * pauseMilliseconds * attempt, undefined, { signal })
    const before = position
    const isWhole = position === 0 && end === object.size
    const body = await bucket.get(object, { start: position, end }, { signal }).catch((error) => {
      if (!(error instanceof PreconditionFailed || error instanceof NotFound)) throw error
      throw new SourceChanged(`${path} was changed while it was read`, { cause: error })
    })
    let failure: unknown
    try {
      for await (const chunk of bytesOf(body, { signal, ...(isWhole && { whole: end }) })) {
        position += chunk.length
        if (position > end) throw new Unavailable(`the storage gives more of ${path} than was asked for`)
        yield chunk
      }
    } catch (error) {
      if (error instanceof BackendError) throw error
      failure = error
    }
    signal.throwIfAborted()
    if (position > before) attempt = 0
    else if (attempt === fruitlessAttempts) {
      throw new Unavailable(`the storage does not give the bytes of ${path}`, { cause: failure })
    }
  }
}

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
