import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { parsePath } from '../../../backends/path.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { invalidHeader, Problem } from '../../../lib/problems.ts'
import { rateOf } from '../../access/rates.ts'
import { requireCapability } from '../../storage/volumes.ts'
import { roomFor } from '../quotas/room.ts'
import { find as findVfolder } from '../rows.ts'
import { replaceableAt } from '../write.ts'
import { type Append, appendBytes, tooLarge } from './append.ts'
import { beginOrFreeRoom } from './begin.ts'
import { completeUpload } from './complete.ts'
import { createConcatenation } from './concatenate.ts'
import { createHashes } from './hashes.ts'
import { createLocks, type Lock } from './locks.ts'
import { expiryOf } from './progress.ts'
import {
  findLeftovers,
  isWhole,
  type Named,
  type NewUpload,
  newToken,
  requireUpload,
  type UploadRow,
  uploadNotFound,
} from './rows.ts'

declare module 'fastify' {
  interface FastifyInstance {
    uploads: ReturnType<typeof createUploads>
  }
}

function createUploads(app: FastifyInstance) {
  const { database: db, quotas, log } = app
  const locks = createLocks(app)
  const hashes = createHashes()
  // Work on an upload is short, or goes on until its bytes are flushed.
  const { signal } = new AbortController()

  async function find(id: string): Promise<UploadRow | undefined> {
    return db.selectFrom('uploads').selectAll().where('id', '=', id).executeTakeFirst()
  }

  /** @throws {Problem} as `requireUpload` does */
  async function get({ id, token }: Named): Promise<UploadRow> {
    return requireUpload(await find(id), token)
  }

  /** Runs `work` on an upload that nobody else changes meanwhile. */
  async function withLock<T>(named: Named, work: (row: UploadRow, lock: Lock) => Promise<T>): Promise<T> {
    await get(named)
    const lock = await locks.take(named.id)
    try {
      return await work(await get(named), lock)
    } finally {
      await lock.release()
    }
  }

  /** Ends an upload and its parts. Bytes go first: a row without bytes is found again, bytes without a row are not. */
  async function drop(row: UploadRow): Promise<void> {
    const vfolder = await findVfolder(db, row.vfolder)
    const volumes = vfolder === undefined ? app.volumes.all() : [app.volumes.get(vfolder.volume)]
    const parts = await db.selectFrom('uploads').selectAll().where('final', '=', row.id).execute()
    for (const { vfolder, id, state } of [row, ...parts]) {
      if (state === 'finished') continue
      for (const { backend } of volumes) await backend.abortUpload(vfolder, id, { signal })
    }
    await db.transaction().execute(async (trx) => {
      const gone = await trx
        .deleteFrom('uploads')
        .where((eb) => eb.or([eb('id', '=', row.id), eb('final', '=', row.id)]))
        .returningAll()
        .execute()
      for (const { vfolder, reserved_bytes: bytes, reserved_files: files } of gone) {
        await quotas.settleAside(trx, vfolder, { bytes, files })
      }
    })
    for (const { id } of [row, ...parts]) hashes.forget(id)
  }

  /**
   * Begins an upload and sets room aside for it. A final upload takes over the room of its parts, which belong to it
   * from now on.
   * @throws {Problem} `file_too_large`, `quota_exceeded`; {BackendError} when there cannot be a file of that name
   */
  async function create(upload: NewUpload, ownParts: UploadRow[] = []) {
    const { permission, kind, size, metadata, parts } = upload
    const { id: vfolder, volume } = await app.vfolders.open(permission.folder)
    const maxBytes = Math.min(upload.maxBytes, volume.backend.limits.maxFileBytes)
    if (size !== undefined && size > maxBytes) throw tooLarge(maxBytes)
    const path = parsePath(permission.path)
    const target = await replaceableAt(volume.backend, vfolder, path, signal)
    const replaced = kind === 'partial' ? { bytes: 0, files: 1 } : target
    const room = roomFor(kind === 'final' ? 0 : (size ?? 0), replaced)
    const rate = rateOf(permission)
    const { token, hash } = newToken()
    const id = randomUUID()
    const expiresAt = expiryOf(app)
    const row = await db.transaction().execute(async (trx) => {
      await quotas.setAside(trx, vfolder, room)
      if (ownParts.length > 0) {
        await trx
          .updateTable('uploads')
          .set({ final: id, reserved_bytes: 0, expires_at: expiresAt })
          .where(
            'id',
            'in',
            ownParts.map((part) => part.id),
          )
          .execute()
      }
      return trx
        .insertInto('uploads')
        .values({
          id,
          vfolder,
          path,
          token_hash: hash,
          state: 'open',
          kind,
          size: size ?? null,
          offset: 0,
          max_bytes: maxBytes,
          bytes_per_second: rate?.bytesPerSecond ?? null,
          rate_key: rate?.key ?? null,
          reserved_bytes: ownParts.reduce((sum, part) => sum + part.reserved_bytes, room.bytes),
          reserved_files: room.files,
          metadata: metadata ?? null,
          parts: parts ?? null,
          request_id: currentRequestId() ?? id,
          origin_request_id: permission.requestId,
          expires_at: expiresAt,
          created_at: new Date().toISOString(),
        })
        .returningAll()
        .executeTakeFirstOrThrow()
    })
    if (kind !== 'final') await beginOrFreeRoom(app, row, () => volume.backend.beginUpload(vfolder, id, { signal }))
    return { id, token, row }
  }

  const { concatenate, freeParts } = createConcatenation({ app, hashes, locks, find, create })

  return {
    get,

    create,

    concatenate,

    /** The upload as it is when nobody writes to it; one that has all its bytes is completed. */
    async settled(named: Named): Promise<UploadRow> {
      const row = await get(named)
      if (row.process === null && (row.state === 'finished' || !isWhole(row))) return row
      // Taking the lock would interrupt a running concatenation, which would start over.
      if (row.kind === 'final' && row.state === 'open') return row
      return withLock(named, async (row) => {
        if (row.state === 'finished' || !isWhole(row)) return row
        return completeUpload(app, hashes, row, signal)
      })
    },

    /**
     * Goes on with an upload, and completes it with its last byte.
     * @throws {Problem} `upload_finished`, `upload_offset_mismatch`, `file_too_large`, `quota_exceeded`,
     * `checksum_mismatch` or `upload_interrupted`
     */
    append(named: Named, append: Append & { size: number | undefined }): Promise<UploadRow> {
      return withLock(named, async (row, lock) => {
        if (row.state === 'finished' || row.kind === 'final')
          throw new Problem('upload_finished', 'Nothing can follow.')
        if (row.kind === 'direct') throw uploadNotFound()
        if (append.offset !== row.offset) {
          const members = { offset: row.offset }
          throw new Problem('upload_offset_mismatch', `The upload goes on from ${row.offset}.`, { members })
        }
        if (append.size !== undefined) await declareSize(row, append.size)
        if (append.bytes !== 0) await appendBytes(app, hashes, row, lock, append)
        return isWhole(row) ? completeUpload(app, hashes, row, signal) : row
      })
    },

    /**
     * Begins an upload whose bytes the client sends to the storage itself.
     * @throws {Problem} `capability_missing`, `file_too_large`, `quota_exceeded`
     */
    async createDirect(upload: Omit<NewUpload, 'kind' | 'metadata'> & { size: number }, expiresInSeconds: number) {
      const { size, permission } = upload
      const { id: vfolder, volume } = await app.vfolders.open(permission.folder)
      const backend = requireCapability(volume, 'presignUpload')
      const maxBytes = Math.min(upload.maxBytes, backend.limits.maxFileBytes)
      const named = await create({ ...upload, maxBytes, kind: 'direct', metadata: undefined })
      const presign = () => backend.presignUpload(vfolder, named.id, { size, expiresInSeconds, signal })
      return { ...named, parts: await beginOrFreeRoom(app, named.row, presign) }
    },

    /** Makes a file of what a client has sent to the storage. @throws {Problem} `upload_incomplete` */
    completeDirect(named: Named): Promise<UploadRow> {
      return withLock(named, async (row) => {
        if (row.kind !== 'direct') throw uploadNotFound()
        if (row.state === 'finished') return row
        if (row.state === 'open') await takeStock(row)
        return completeUpload(app, hashes, row, signal)
      })
    },

    /** Ends an upload that will not go on; the file of a completed one stays. @throws {Problem} `upload_locked` */
    remove(named: Named): Promise<void> {
      return withLock(named, async (row) => {
        if (row.final === null || row.state === 'finished') return drop(row)
        throw new Problem('upload_locked', 'A file is being made of it.')
      })
    },

    /** Ends all uploads into a vfolder that is being deleted. */
    async removeOf(vfolder: string): Promise<void> {
      const rows = await db.selectFrom('uploads').selectAll().where('vfolder', '=', vfolder).execute()
      for (const row of rows) {
        const lock = await locks.take(row.id).catch((error) => {
          if (!(error instanceof Problem)) throw error
        })
        await drop(row)
        await lock?.release()
      }
    },

    /**
     * Ends uploads that have expired or lost their vfolder, and completes those that a dead process had begun to
     * complete. Parts end with their final upload.
     */
    async cleanUp(): Promise<void> {
      for (const id of await findLeftovers(db)) {
        const lock = await locks.tryTake(id)
        if (lock === undefined) continue
        try {
          await cleanUpOne(id)
        } catch (err) {
          log.error({ err, upload_id: id }, 'upload could not be cleaned up')
        } finally {
          await lock.release()
        }
      }
    },
  }

  /** Finds out whether all announced bytes are there. */
  async function takeStock(row: UploadRow): Promise<void> {
    const { volume } = await app.vfolders.open(row.vfolder)
    const upload = await volume.backend.readUpload(row.vfolder, row.id, { signal })
    upload.close()
    const { entry } = upload
    if (entry.size !== row.size) {
      const members = { bytes: entry.size, size: row.size }
      throw new Problem('upload_incomplete', `The storage has ${entry.size} of ${row.size} bytes.`, { members })
    }
    row.offset = entry.size
    await db.updateTable('uploads').set({ offset: row.offset }).where('id', '=', row.id).execute()
  }

  async function declareSize(row: UploadRow, size: number): Promise<void> {
    if (row.size !== null && row.size !== size) {
      throw invalidHeader('Upload-Length', `must stay ${row.size}`)
    }
    if (size > row.max_bytes) throw tooLarge(row.max_bytes)
    if (size < row.offset) throw tooLarge(size)
    row.size = size
    await db.updateTable('uploads').set({ size }).where('id', '=', row.id).execute()
  }

  async function cleanUpOne(id: string): Promise<void> {
    const row = await find(id)
    if (row === undefined) return
    const expired = row.expires_at <= Date.now()
    if (row.state === 'completing') {
      const completed = await completeUpload(app, hashes, row, signal).catch((err) => {
        log.warn({ err, upload_id: id }, 'upload could not be completed')
      })
      if (completed !== undefined) await freeParts(completed)
      if (completed !== undefined || !expired) return
    }
    if (!expired && (await findVfolder(db, row.vfolder)) !== undefined) return freeParts(row)
    await drop(row)
    const fields = { upload_id: id, folder: row.vfolder, path: row.path, origin_request_id: row.origin_request_id }
    if (row.state === 'finished') log.debug(fields, 'upload forgotten')
    else log.info({ ...fields, bytes: row.offset, reserved_bytes: row.reserved_bytes }, 'expired upload removed')
  }
}

/** Resumable uploads: they survive a lost connection, and a lost process. */
export default fp(
  async (app) => {
    app.decorate('uploads', createUploads(app))
  },
  { name: 'uploads', dependencies: ['config', 'database', 'processes', 'volumes', 'quotas', 'vfolders'] },
)
