import { Hash } from 'node:crypto'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { Backend } from '../../../backends/backend.ts'
import { parsePath } from '../../../backends/path.ts'
import { Problem } from '../../../lib/problems.ts'
import { roomFor } from '../quotas/room.ts'
import { amountAt } from '../write.ts'
import type { Checksum } from './checksum.ts'
import { type createHashes, forgetHash } from './hashes.ts'
import type { Lock } from './locks.ts'
import { createProgress, expiryOf, setOffset } from './progress.ts'
import { coverRoom } from './room.ts'
import type { UploadRow } from './rows.ts'

export interface Append {
  /** Where the client believes to go on. */
  offset: number
  /** How many bytes it sends, when it says so. */
  bytes: number | undefined
  /** The bytes; they end early, as if that were all, when `end` aborts. */
  read(end: AbortSignal): AsyncIterable<Buffer>
  checksum?: Checksum | undefined
}

/**
 * Stores bytes of an upload. What ends them early, a client that goes away, a limit or the storage, is told after those
 * that are durable are counted, since the client goes on from there. With a checksum they count all or not at all. Where
 * more come than may, none count: those that fit are not what the client means, and could be taken for the file.
 */
export async function appendBytes(
  app: FastifyInstance,
  hashes: ReturnType<typeof createHashes>,
  row: UploadRow,
  lock: Lock,
  { offset, bytes, read, checksum }: Append,
): Promise<void> {
  const { id, vfolder } = row
  const { volume } = await app.vfolders.open(vfolder)
  const { backend } = volume
  // Not the request's: what came is flushed also when the client is gone.
  const { signal } = new AbortController()
  const limit = row.size ?? row.max_bytes
  if (offset + (bytes ?? 0) > limit) throw tooLarge(limit)
  const replaced =
    row.kind === 'partial' ? { bytes: 0, files: 1 } : await amountAt(backend, vfolder, parsePath(row.path), signal)
  await coverRoom(app, row, roomFor(offset + (bytes ?? 0), replaced))

  const hash = hashes.at(row, offset, bytes)
  const progress = createProgress(app, row, checksum === undefined ? limit : 0)
  let end = offset
  let failure: unknown
  let overrun = false

  async function* metered(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of read(lock.wanted)) {
        overrun = end + chunk.length > limit
        if (overrun) throw tooLarge(limit)
        await coverRoom(app, row, roomFor(end + chunk.length, replaced), true)
        end += chunk.length
        yield chunk
        checksum?.update(chunk)
        // At last, since its memory may go to the thread that hashes.
        const hashed = hash?.update(chunk)
        if (hashed instanceof Promise) await hashed
      }
    } catch (error) {
      failure = error
    }
  }

  const onDurable = progress.reached
  const stored = await backend
    .appendUpload(vfolder, id, metered(), { offset, signal, onDurable })
    .catch((error) => {
      failure = error
      return progress.offset()
    })
    .finally(progress.end)
  const interrupted = lock.wanted.aborted && stored !== row.size && stored !== offset + (bytes ?? -1)
  let counted = false
  let kept = false
  try {
    if ((failure === undefined && !interrupted) || (checksum === undefined && !overrun)) {
      checksum?.verify()
      const change = { offset: stored, expires_at: expiryOf(app) }
      if (!(await setOffset(app, row, change))) throw failure ?? uploadTaken()
      Object.assign(row, change)
      counted = true
      // On the thread only whole.
      kept = stored === end && (hash instanceof Hash || stored === row.size)
      if (kept) hashes.keep(id, stored, hash)
    }
    if (failure !== undefined) throw failure
    if (interrupted) throw uploadTaken()
  } finally {
    if (!kept) forgetHash(hash)
    if (!counted) await discard(app, backend, row)
  }
}

/** Gives back the room of bytes that do not count, where the storage can. The next append does it again, so this may fail. */
async function discard(app: FastifyInstance, backend: Backend, row: UploadRow): Promise<void> {
  const { id, vfolder, offset } = row
  const { signal } = new AbortController()
  try {
    // What another process has told of by now must stay.
    if (!(await setOffset(app, row, { offset }))) return
    await backend.appendUpload(vfolder, id, Readable.from([]), { offset, signal })
  } catch (err) {
    app.log.info({ err, upload_id: id }, 'bytes that do not count could not be freed yet')
  }
}

function uploadTaken(): Problem {
  return new Problem('upload_interrupted', 'Another request goes on with this upload.')
}

export function tooLarge(limit: number): Problem {
  return new Problem('file_too_large', `The upload is over the limit of ${limit} bytes.`, {
    members: { maxBytes: limit },
  })
}
