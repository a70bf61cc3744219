import type { Call } from '../backend.ts'
import { SizeMismatch } from '../errors.ts'
import { fdatasync, writev } from './files.ts'

/** Chunks as they come from a socket are gathered to this size before they are written. */
const gatherBytes = 1024 * 1024
/** But not for longer than this: by the time of its last write the cleanup tells a slow upload from a dead one. */
const gatherMilliseconds = 1000
/** After so many bytes the disk begins to work, so that the flush at the end has little left to wait for. */
const syncBytes = 32 * 1024 * 1024

interface StoreOptions extends Call {
  /** Where in the file to begin. */
  position?: number
  /** How many bytes may come. */
  maxBytes?: number
}

/**
 * Writes what comes into a file; while one gathering is written, the next one is gathered. Gives the number of bytes.
 * @throws {SizeMismatch} when more than `maxBytes` come
 */
export async function store(
  fd: number,
  source: AsyncIterable<Buffer>,
  { signal, position = 0, maxBytes = Number.POSITIVE_INFINITY }: StoreOptions,
): Promise<number> {
  let chunks: Buffer[] = []
  let gathered = 0
  let given = 0
  let flushedAt = performance.now()
  let writing: Promise<void> = Promise.resolve()
  const syncing = backgroundSync(fd)

  const flush = async () => {
    await writing
    const batch = chunks
    writing = writeFully(fd, batch, position + given)
    writing.catch(() => {}) // Awaited before the next one; a failure must not count as unhandled until then.
    given += gathered
    chunks = []
    gathered = 0
    flushedAt = performance.now()
    syncing.wrote(given)
  }

  try {
    for await (const chunk of source) {
      signal.throwIfAborted()
      chunks.push(chunk)
      gathered += chunk.length
      if (given + gathered > maxBytes) throw new SizeMismatch(`more than ${maxBytes} bytes came`)
      if (gathered >= gatherBytes || performance.now() - flushedAt > gatherMilliseconds) await flush()
    }
    signal.throwIfAborted()
    if (gathered > 0) await flush()
    await writing
    await syncing.done()
  } finally {
    // The caller closes the descriptor, whose number may be another file's right after.
    await Promise.allSettled([writing, syncing.done()])
  }
  return given
}

/** Flushes in the background, one flush at a time. Linux tells of a failed one once, so it is kept for `done`. */
function backgroundSync(fd: number) {
  let syncedBytes = 0
  let running: Promise<void> | undefined
  let failure: unknown
  return {
    wrote(bytes: number): void {
      if (running !== undefined || bytes - syncedBytes < syncBytes) return
      syncedBytes = bytes
      running = fdatasync(fd).then(
        () => {
          running = undefined
        },
        (error) => {
          failure = error
        },
      )
    },
    async done(): Promise<void> {
      await running
      if (failure !== undefined) throw failure
    },
  }
}

/** writev(2) may store less than it was given. */
async function writeFully(fd: number, chunks: Buffer[], position: number): Promise<void> {
  let rest = chunks
  let at = position
  while (rest.length > 0) {
    const { bytesWritten } = await writev(fd, rest, at)
    at += bytesWritten
    rest = withoutFirst(rest, bytesWritten)
  }
}

function withoutFirst(chunks: Buffer[], bytes: number): Buffer[] {
  let skip = bytes
  const index = chunks.findIndex((chunk) => {
    if (skip < chunk.length) return true
    skip -= chunk.length
    return false
  })
  const first = chunks[index]
  return first === undefined ? [] : [first.subarray(skip), ...chunks.slice(index + 1)]
}
