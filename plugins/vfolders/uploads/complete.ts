import type { FastifyInstance } from 'fastify'
import { growthOf, nothing } from '../../../backends/amount.ts'
import type { Amount, Backend } from '../../../backends/backend.ts'
import { UploadNotFound } from '../../../backends/errors.ts'
import { type EntryPath, parsePath } from '../../../backends/path.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { transact } from '../../storage/database/transact.ts'
import { uploadPassed } from '../notices.ts'
import { roomFor } from '../quotas/room.ts'
import { filesStored } from '../told.ts'
import { amountAt } from '../write.ts'
import type { createHashes } from './hashes.ts'
import { coverRoom } from './room.ts'
import { changeHeld, keptUntil, type UploadRow, uploadNotFound, uploadTaken } from './rows.ts'

/**
 * Makes the file of an upload that has all its bytes, and settles its room, exactly once: the row announces the change
 * of the storage before it happens, so that after a crash the next caller finds out how far it got.
 */
export async function completeUpload(
  app: FastifyInstance,
  hashes: ReturnType<typeof createHashes>,
  row: UploadRow,
  signal: AbortSignal,
): Promise<UploadRow> {
  const { database: db, processes, quotas, log } = app
  const { id, vfolder, offset: size } = row
  const path = parsePath(row.path)
  const { volume } = await app.vfolders.open(vfolder)
  const { backend } = volume

  // Tells a count of the usage that it is about to change.
  const changing = await quotas.reserve(vfolder, nothing)
  try {
    const wasAnnounced = row.state !== 'open'
    if (!wasAnnounced) await announce()
    const written = await backend.completeUpload(vfolder, id, path, { size, signal }).catch(async (error) => {
      if (!(error instanceof UploadNotFound)) throw error
      if (wasAnnounced) return undefined
      await withdraw()
      throw error
    })
    const by = written === undefined ? await findOutcome(backend, path, row, signal) : growthOf(written)
    const done = await transact(db, async (trx) => {
      const done = await trx
        .updateTable('uploads')
        .set({ state: 'finished', reserved_bytes: 0, reserved_files: 0, expires_at: keptUntil(row) })
        .where('id', '=', id)
        .where('state', '=', 'completing')
        .where('process', '=', processes.id)
        .returningAll()
        .executeTakeFirst()
      if (done === undefined) throw uploadTaken()
      await quotas.settleAside(trx, vfolder, { bytes: row.reserved_bytes, files: row.reserved_files }, by)
      const { sha256 } = done
      const stored = {
        path,
        type: 'file',
        size,
        etag: written?.entry.etag,
        ...(sha256 !== null && { sha256 }),
      } as const
      const replaced = row.replaced_files > 0
      const ids = { requestId: currentRequestId() ?? id, originRequestId: row.origin_request_id }
      await app.events.add(trx, ...filesStored(vfolder, [{ ...stored, replaced, ...ids }]))
      const audited = {
        action: 'file.store',
        folder: vfolder,
        volume: volume.name,
        path,
        bytes: size,
        subject: id,
      } as const
      app.audit.write(trx, { ...audited, origin: row.origin_request_id })
      return done
    })
    hashes.forget(id)
    uploadPassed.give('finished', row.kind === 'direct' ? 'direct' : 'tus')
    const origin = { origin_request_id: row.origin_request_id }
    log.info({ upload_id: id, folder: vfolder, path, size, sha256: done.sha256, ...origin }, 'upload completed')
    return done
  } finally {
    await changing.end()
  }

  async function announce(): Promise<void> {
    // The bytes of a direct upload never passed through here, and are not fetched for their hash.
    const sha256 = row.kind === 'direct' ? null : await hashes.digest(row, backend, signal)
    const replaced = await amountAt(backend, vfolder, path, signal)
    await coverRoom(app, row, roomFor(size, replaced))
    row.replaced_bytes = replaced.bytes
    row.replaced_files = replaced.files
    const announced = { sha256, replaced_bytes: replaced.bytes, replaced_files: replaced.files }
    await changeHeld(db, id, processes.id, { state: 'completing', ...announced })
  }

  /** Nobody had begun to make the file, and its bytes are lost: an entry at its path is not from this upload. */
  async function withdraw(): Promise<void> {
    await db
      .updateTable('uploads')
      .set({ state: 'open' })
      .where('id', '=', id)
      .where('state', '=', 'completing')
      .where('process', '=', processes.id)
      .execute()
  }
}

/** Finds out what an announced completion has changed, when its end was not seen. */
async function findOutcome(backend: Backend, path: EntryPath, row: UploadRow, signal: AbortSignal): Promise<Amount> {
  const entry = await backend.stat(row.vfolder, path, { signal })
  if (entry.type !== 'file' || entry.size !== row.offset) throw uploadNotFound()
  return { bytes: entry.size - row.replaced_bytes, files: 1 - row.replaced_files }
}
