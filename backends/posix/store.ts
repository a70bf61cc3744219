import type { Call } from '../backend.ts'
import { acquireBuffer, releaseBuffer } from '../buffers.ts'
import { SizeMismatch } from '../errors.ts'
import { fdatasync, write } from './files.ts'

/** Gathered bytes wait no longer than this: the cleanup tells a slow upload from a dead one by its last write. */
const gatherMilliseconds = 1000
/** A chunk of so many bytes is written as it is. */
const directBytes = 256 * 1024
/** After so many bytes the disk begins to work, so that the flush at the end has little left to wait for. */
const syncBytes = 32 * 1024 * 1024

interface StoreOptions extends Call {
  /** Where in the file to begin. */
  position?: number
  /** How many bytes may come. */
  maxBytes?: number
  /** Called with how much of the file is on the disk, also before this fails. */
  onDurable?(position: number): void
}

/**
 * Writes a source into a file; while one buffer is written, the next one is filled. Gives the number of bytes.
 * @throws {SizeMismatch} when more than `maxBytes` come
 */
export async function store(
  fd: number,
  source: AsyncIterable<Buffer> | Iterable<Buffer>,
  { signal, position = 0, maxBytes = Number.POSITIVE_INFINITY, onDurable }: StoreOptions,
): Promise<number> {
  let buffer: Buffer | undefined
  let gathered = 0
  let given = 0
  let flushedAt = performance.now()
  let writing: Promise<void> = Promise.resolve()
  const syncing = createBackgroundSync(fd, (bytes) => onDurable?.(position + bytes))

  const begin = async (chunk: Buffer) => {
    const start = given
    given += chunk.length
    flushedAt = performance.now()
    await writeFully(fd, chunk, position + start)
    syncing.wrote(given)
  }
  const flush = async () => {
    await writing
    if (buffer === undefined) return
    const full = buffer
    writing = begin(full.subarray(0, gathered)).finally(() => releaseBuffer(full))
    writing.catch(() => {}) // Awaited before the next one; a failure must not count as unhandled until then.
    buffer = undefined
    gathered = 0
  }

  try {
    for await (const chunk of source) {
      signal.throwIfAborted()
      if (given + gathered + chunk.length > maxBytes) throw new SizeMismatch(`more than ${maxBytes} bytes came`)
      if (chunk.length >= directBytes) {
        await flush()
        await writing
        await begin(chunk)
        continue
      }
      // Copied, so that what the connection allocated for each chunk is garbage at once, when that costs least.
      for (let taken = 0; taken < chunk.length; ) {
        buffer ??= acquireBuffer()
        const copied = chunk.copy(buffer, gathered, taken)
        gathered += copied
        taken += copied
        if (gathered === buffer.length) await flush()
      }
      if (performance.now() - flushedAt > gatherMilliseconds) await flush()
    }
    signal.throwIfAborted()
    await flush()
    await writing
    await syncing.done()
  } catch (error) {
    await writing.catch(() => {})
    if (onDurable !== undefined) await syncing.all().catch(() => {})
    throw error
  } finally {
    // The caller closes the descriptor, whose number may be another file's right after.
    await Promise.allSettled([writing, syncing.done()])
    if (buffer !== undefined) releaseBuffer(buffer)
  }
  return given
}

/** Flushes in the background, one flush at a time. Linux reports a failed one only once, so it is kept for `done`. */
function createBackgroundSync(fd: number, onDurable: (bytes: number) => void) {
  let writtenBytes = 0
  let syncedBytes = 0
  let running: Promise<void> | undefined
  let failure: unknown

  const sync = async () => {
    const bytes = writtenBytes
    syncedBytes = bytes
    await fdatasync(fd)
    onDurable(bytes)
  }
  const done = async () => {
    await running
    if (failure !== undefined) throw failure
  }

  return {
    /** So many bytes, from the first one on, are in the file. */
    wrote(bytes: number): void {
      writtenBytes = bytes
      if (running !== undefined || bytes - syncedBytes < syncBytes) return
      running = sync().then(
        () => {
          running = undefined
        },
        (error) => {
          failure = error
        },
      )
    },

    done,

    /** Flushes what is in the file. */
    async all(): Promise<void> {
      await done()
      if (syncedBytes < writtenBytes) await sync()
    },
  }
}

/** write(2) may store less than it was given. */
export async function writeFully(fd: number, bytes: Buffer, position: number): Promise<void> {
  for (let stored = 0; stored < bytes.length; ) {
    const { bytesWritten } = await write(fd, bytes, stored, bytes.length - stored, position + stored)
    stored += bytesWritten
  }
}
