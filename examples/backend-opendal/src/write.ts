import { randomUUID } from 'node:crypto'
import {
  AlreadyExists,
  IsADirectory,
  PreconditionFailed,
  SizeMismatch,
  type WriteOptions,
  type Written,
} from 'storage-proxy/backend'
import { findEntry, getEntry, makeParents } from './entries.ts'
import { kindOf, translated } from './errors.ts'
import { fileKey, staging } from './keys.ts'
import type { Store } from './store.ts'

/** Takes the bytes of a file, which then appears in one step or not at all. */
interface Sink {
  write(chunk: Buffer): Promise<void>
  publish(): Promise<void>
  discard(): Promise<void>
}

export async function writeFile(
  store: Store,
  folder: string,
  path: string,
  source: AsyncIterable<Buffer>,
  options: WriteOptions,
): Promise<Written> {
  const key = fileKey(folder, path)
  const sink = await translated(path, () => openSink(store, key, options))
  try {
    await fill(sink, path, source, options)
    return await store.alone(key, async () => {
      const replaced = await replaceable(store, folder, path, options)
      options.signal.throwIfAborted()
      await makeParents(store, folder, path)
      await publish(sink, path)
      return { entry: await getEntry(store, folder, path), ...(replaced !== undefined && { replaced }) }
    })
  } catch (error) {
    await sink.discard()
    throw error
  }
}

/** Stores bytes that are no entry of a vfolder, under a key that nobody else writes to. */
export async function writeObject(
  store: Store,
  key: string,
  source: AsyncIterable<Buffer>,
  options: Pick<WriteOptions, 'signal' | 'size'>,
): Promise<number> {
  const sink = await translated('the upload', () => openSink(store, key, {}))
  try {
    const bytes = await fill(sink, 'the upload', source, options)
    await translated('the upload', () => sink.publish())
    return bytes
  } catch (error) {
    await sink.discard()
    throw error
  }
}

/**
 * Makes sure that what stands at a path may be replaced, and gives its bytes.
 * @throws {AlreadyExists}
 * @throws {IsADirectory}
 * @throws {PreconditionFailed}
 */
export async function replaceable(
  store: Store,
  folder: string,
  path: string,
  { ifAbsent, ifMatch }: Pick<WriteOptions, 'ifAbsent' | 'ifMatch'>,
): Promise<number | undefined> {
  const old = await findEntry(store, folder, path)
  if (old !== undefined && ifAbsent) throw new AlreadyExists(`${path} exists already`)
  if (old?.type === 'directory') throw new IsADirectory(`${path} is a directory`)
  if (ifMatch !== undefined && (old?.etag === undefined || old.etag !== ifMatch)) {
    throw new PreconditionFailed(`${path} was changed meanwhile`)
  }
  return old?.size
}

async function fill(
  sink: Sink,
  path: string,
  source: AsyncIterable<Buffer>,
  { size, signal }: Pick<WriteOptions, 'signal' | 'size'>,
): Promise<number> {
  let bytes = 0
  for await (const chunk of source) {
    signal.throwIfAborted()
    bytes += chunk.length
    if (size !== undefined && bytes > size) throw new SizeMismatch(`more than ${size} bytes came`)
    if (chunk.length > 0) await translated(path, () => sink.write(chunk))
  }
  signal.throwIfAborted()
  if (size !== undefined && bytes < size) throw new SizeMismatch(`${bytes} bytes came instead of ${size}`)
  return bytes
}

async function publish(sink: Sink, path: string): Promise<void> {
  await translated(path, () =>
    sink.publish().catch((error) => {
      // What the storage itself decides, about a writer in another process.
      if (kindOf(error) !== 'ConditionNotMatch') throw error
      throw new AlreadyExists(`${path} exists already`, { cause: error })
    }),
  )
}

function openSink(store: Store, key: string, options: Pick<WriteOptions, 'ifAbsent'>): Promise<Sink> {
  const ifNotExists = store.conditional && options.ifAbsent
  if (store.publication === 'rename') return stagedSink(store, key)
  return store.publication === 'close' ? closedSink(store, key, ifNotExists) : putSink(store, key)
}

async function stagedSink({ operator, chunkBytes }: Store, key: string): Promise<Sink> {
  const staged = staging + randomUUID()
  const writer = await operator.writer(staged, { chunk: BigInt(chunkBytes) })
  return {
    write: (chunk) => writer.write(chunk),
    async publish() {
      await writer.close()
      await operator.rename(staged, key)
    },
    async discard() {
      await writer.close().catch(() => {})
      await operator.delete(staged)
    },
  }
}

async function closedSink({ operator, chunkBytes }: Store, key: string, ifNotExists = false): Promise<Sink> {
  const writer = await operator.writer(key, { chunk: BigInt(chunkBytes), ...(ifNotExists && { ifNotExists }) })
  return {
    write: (chunk) => writer.write(chunk),
    publish: () => writer.close(),
    // OpenDAL's writer has no abort for Node: the parts stay until a lifecycle rule of the bucket removes them.
    async discard() {},
  }
}

async function putSink({ operator, maxFileBytes }: Store, key: string): Promise<Sink> {
  const chunks: Buffer[] = []
  let bytes = 0
  return {
    async write(chunk) {
      bytes += chunk.length
      if (bytes > maxFileBytes) throw new SizeMismatch(`more than ${maxFileBytes} bytes do not fit into one request`)
      chunks.push(Buffer.from(chunk))
    },
    async publish() {
      await operator.write(key, Buffer.concat(chunks))
    },
    async discard() {},
  }
}
