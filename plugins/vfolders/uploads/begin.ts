import type { FastifyInstance } from 'fastify'
import type { Backend } from '../../../backends/backend.ts'
import { parsePath } from '../../../backends/path.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { keyOf } from '../../access/signed-urls.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { requireCapability } from '../../storage/volumes.ts'
import { uploadPassed } from '../notices.ts'
import { roomFor } from '../quotas/room.ts'
import { requireSpace } from '../space.ts'
import { replaceableAt } from '../write.ts'
import { tooLarge } from './append.ts'
import { expiryOf } from './progress.ts'
import { hashOf, type NewUpload, newName, requirePlace, type UploadRow, uploadTaken } from './rows.ts'

/** Begins uploads: their room first, their row, and then their place on the storage. */
export function createBeginning(app: FastifyInstance, signal: AbortSignal) {
  const { database: db, quotas } = app

  async function spaceRefusal(backend: Backend, bytes: number): Promise<{ error: unknown } | undefined> {
    return requireSpace(backend, bytes, { signal }).then(
      () => undefined,
      (error: unknown) => ({ error }),
    )
  }

  /**
   * Begins an upload and sets room aside for it. A final upload takes over the room of its parts, which belong to it
   * from now on. One that was named before has its place on the storage only with its first bytes, so that it can be
   * begun again after a crash.
   * @throws {Problem} `file_too_large`, `quota_exceeded`, `too_many_uploads`; {BackendError} when there cannot be a file of that name
   */
  async function create(upload: NewUpload, ownParts: UploadRow[] = []) {
    const { permission, kind, size, metadata, parts } = upload
    const { id: vfolder, volume } = await app.vfolders.open(permission.folder)
    const maxBytes = Math.min(upload.maxBytes, volume.backend.limits.maxFileBytes)
    if (size !== undefined && size > maxBytes) throw tooLarge(maxBytes)
    // A limit that it is over is told first.
    const refusal = kind === 'final' ? undefined : await spaceRefusal(volume.backend, size ?? 0)
    const path = parsePath(permission.path)
    const target = await replaceableAt(volume.backend, vfolder, path, signal)
    const replaced = kind === 'partial' ? { bytes: 0, files: 1 } : target
    const room = roomFor(kind === 'final' ? 0 : (size ?? 0), replaced)
    const { id, token } = upload.named ?? newName()
    const expiresAt = expiryOf(app)
    const take = async (trx: Database) => {
      await quotas.setAside(trx, vfolder, room)
      if (kind === 'whole' || kind === 'partial') await requirePlace(trx, permission, db.now())
      if (refusal !== undefined) throw refusal.error
      if (ownParts.length > 0) {
        const { numUpdatedRows } = await trx
          .updateTable('uploads')
          .set({ final: id, reserved_bytes: 0, expires_at: expiresAt })
          .where(
            'id',
            'in',
            ownParts.map((part) => part.id),
          )
          .where('process', '=', app.processes.id)
          .executeTakeFirstOrThrow()
        if (numUpdatedRows !== BigInt(ownParts.length)) throw uploadTaken()
      }
      const row = await trx
        .insertInto('uploads')
        .values({
          id,
          vfolder,
          path,
          token_hash: hashOf(token),
          state: 'open',
          kind,
          size: size ?? null,
          offset: 0,
          max_bytes: maxBytes,
          bytes_per_second: permission.bytesPerSecond ?? null,
          url_key: keyOf(permission),
          reserved_bytes: ownParts.reduce((sum, part) => sum + part.reserved_bytes, room.bytes),
          reserved_files: room.files,
          metadata: metadata ?? null,
          parts: parts ?? null,
          request_id: currentRequestId() ?? id,
          origin_request_id: permission.requestId,
          expires_at: expiresAt,
          named_until: upload.named?.until ?? null,
          created_at: new Date(db.now()).toISOString(),
        })
        .onConflict((conflict) => conflict.column('id').doNothing())
        .returningAll()
        .executeTakeFirst()
      if (row === undefined) throw uploadTaken()
      const begun = {
        action: 'upload.begin',
        folder: vfolder,
        volume: volume.name,
        path,
        bytes: size,
        subject: id,
      } as const
      app.audit.write(trx, { ...begun, origin: permission.requestId })
      return row
    }
    const row = await quotas.asking(vfolder, () => transact(db, take))
    if (kind !== 'final' && upload.named === undefined)
      await beginOrFreeRoom(app, row, () => volume.backend.beginUpload(vfolder, id, { signal }))
    uploadPassed.give('begun', kind === 'direct' ? 'direct' : 'tus')
    return { id, token, row }
  }

  /**
   * Begins an upload whose bytes the client sends to the storage itself.
   * @throws {Problem} `capability_missing`, `file_too_large`, `quota_exceeded`
   */
  async function createDirect(
    upload: Omit<NewUpload, 'kind' | 'metadata'> & { size: number },
    expiresInSeconds: number,
  ) {
    const { size, permission } = upload
    const { id: vfolder, volume } = await app.vfolders.open(permission.folder)
    const backend = requireCapability(volume, 'presignUpload')
    const maxBytes = Math.min(upload.maxBytes, backend.limits.maxFileBytes)
    const named = await create({ ...upload, maxBytes, kind: 'direct', metadata: undefined })
    const presign = () => backend.presignUpload(vfolder, named.id, { size, expiresInSeconds, signal })
    return { ...named, parts: await beginOrFreeRoom(app, named.row, presign) }
  }

  return { create, createDirect }
}

/**
 * Begins an upload on the storage. When that fails its room is freed at once, and the cleanup removes the rest later:
 * the storage may be away for longer.
 */
async function beginOrFreeRoom<T>(
  { database, quotas }: FastifyInstance,
  { id, vfolder, reserved_bytes: bytes, reserved_files: files }: UploadRow,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    await database.writeLater(() =>
      transact(database, async (trx) => {
        const over = { reserved_bytes: 0, reserved_files: 0, expires_at: database.now() }
        // The cleanup of another process may have been quicker.
        const { numUpdatedRows } = await trx
          .updateTable('uploads')
          .set(over)
          .where('id', '=', id)
          .where('reserved_bytes', '=', bytes)
          .where('reserved_files', '=', files)
          .executeTakeFirst()
        if (numUpdatedRows > 0n) await quotas.settleAside(trx, vfolder, { bytes, files })
      }),
    )
    throw error
  }
}
