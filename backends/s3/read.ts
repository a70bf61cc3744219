import { setTimeout as sleep } from 'node:timers/promises'
import type { Call, OpenFile } from '../backend.ts'
import { BackendError, IsADirectory, NotFound, PreconditionFailed, Unavailable } from '../errors.ts'
import { bytesOf } from './body.ts'
import type { Bucket, StoredObject } from './bucket.ts'
import { directoryExists } from './directories.ts'
import { fileEntry } from './entry.ts'
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
      throw new Unavailable(`${path} was changed while it was read`, { cause: error })
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
