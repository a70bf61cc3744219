import { Hash } from 'node:crypto'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { Backend } from '../../../backends/backend.ts'
import { parsePath } from '../../../backends/path.ts'
import { Problem } from '../../../lib/problems.ts'
import { bytesReceived, uploadPassed } from '../notices.ts'
import { roomFor } from '../quotas/room.ts'
import { amountAt } from '../write.ts'
import type { Checksum } from './checksum.ts'
import { type createHashes, forgetHash } from './hashes.ts'
import type { Lock } from './locks.ts'
import { createProgress, expiryOf, writeDown } from './progress.ts'
import { coverRoom } from './room.ts'
import { type UploadRow, uploadTaken } from './rows.ts'

export interface Append {
  /** The offset at which the client means to go on. */
  offset: number
  /** How many bytes it sends, when it says so. */
  bytes: number | undefined
  /** The bytes; they end early, as if that were all, when `end` aborts. */
  read(end: AbortSignal): AsyncIterable<Buffer>
  checksum?: Checksum | undefined
}

/**
 * Stores bytes of an upload. If a client that goes away, a limit or the storage ends them early, the durable ones are
 * counted before the error is thrown, since the client goes on from there. With a checksum all bytes count or none. If
 * more come than are allowed, none count: those that fit are not what the client means, and could be taken for the
 * file.
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
  // Not the request's signal: the bytes that came are flushed also when the client is gone.
  const { signal } = new AbortController()
  const limit = row.size ?? row.max_bytes
  if (offset + (bytes ?? 0) > limit) throw tooLarge(limit)
  const replaced =
    row.kind === 'partial' ? { bytes: 0, files: 1 } : await amountAt(backend, vfolder, parsePath(row.path), signal)
  await coverRoom(app, row, roomFor(offset + (bytes ?? 0), replaced))

  if (offset > 0) uploadPassed.give('resumed', 'tus')
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
        bytesReceived.give('tus', volume.name, chunk.length)
        progress.moved()
        yield chunk
        checksum?.update(chunk)
        // Last, since the memory of the chunk may go to the hashing thread.
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
      await writeDown(app, row, change).catch((error) => {
        throw failure ?? error
      })
      Object.assign(row, change)
      counted = true
      // A hash on the thread cannot be copied, so it is kept only once it is whole.
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
    // Bytes that another process has reported by now must stay.
    await writeDown(app, row, { offset, expires_at: expiryOf(app) })
    await backend.appendUpload(vfolder, id, Readable.from([]), { offset, signal })
  } catch (err) {
    app.log.info({ err, upload_id: id }, 'bytes that do not count could not be freed yet')
  }
}

export function tooLarge(limit: number): Problem {
  return new Problem('file_too_large', `The upload is over the limit of ${limit} bytes.`, {
    members: { maxBytes: limit },
  })
}
