import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { invalidHeader, Problem } from '../../../lib/problems.ts'
import { transact } from '../../storage/database/transact.ts'
import type { NewEvent } from '../../work/events/event.ts'
import { uploadPassed } from '../notices.ts'
import { find as findVfolder } from '../rows.ts'
import { requireSpace } from '../space.ts'
import { uploadExpired } from '../told.ts'
import { type Append, appendBytes, tooLarge } from './append.ts'
import { createBeginning } from './begin.ts'
import { completeUpload } from './complete.ts'
import { createConcatenation } from './concatenate.ts'
import { createFind } from './find.ts'
import { createFirstUse } from './first-use.ts'
import { createHashes } from './hashes.ts'
import { createLocks, type Lock } from './locks.ts'
import {
  changeHeld,
  endedRow,
  findLeftovers,
  holdUpload,
  isOver,
  isWhole,
  listOpen,
  type Named,
  offsetMismatch,
  readUpload,
  requireUpload,
  type UploadRow,
  uploadNotFound,
} from './rows.ts'
import { type SmallUpload, storeSmallUpload } from './small.ts'

declare module 'fastify' {
  interface FastifyInstance {
    uploads: ReturnType<typeof createUploads>
  }
}

interface Appending {
  /** What the client says now of how large the upload becomes. */
  size: number | undefined
  /** The storage may not know of the upload yet, and its client not that it is complete. */
  isAnnounced?: true
}

interface Ending {
  event?: NewEvent
  /** A name that it had before it was begun does not begin it again. */
  isFinal?: boolean
}

function createUploads(app: FastifyInstance) {
  const { database: db, processes, quotas, log } = app
  const locks = createLocks(app)
  const find = createFind(app, locks)
  const hashes = createHashes()
  // Work on an upload is short, or goes on until its bytes are flushed.
  const { signal } = new AbortController()

  async function isOpenIn(vfolder: string, id: string): Promise<boolean> {
    const row = await find(id)
    return row?.vfolder === vfolder && !isOver(row)
  }

  /** @throws {Problem} as `requireUpload` does */
  async function get({ id, token }: Named): Promise<UploadRow> {
    return requireUpload(await find(id), token, db.now())
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
  async function drop(row: UploadRow, ending: Ending = {}): Promise<void> {
    // Bytes that another process has gone on with must stay.
    await transact(db, (trx) => holdUpload(trx, row.id, processes.id))
    await forget(row, ending)
  }

  /** The same, whoever has it. */
  async function forget(row: UploadRow, { event, isFinal = false }: Ending = {}): Promise<void> {
    const vfolder = await findVfolder(db, row.vfolder)
    const volumes = vfolder === undefined ? app.volumes.all() : [app.volumes.get(vfolder.volume)]
    const parts = await db.selectFrom('uploads').selectAll().where('final', '=', row.id).execute()
    for (const one of [row, ...parts]) {
      if (isOver(one)) continue
      for (const { backend } of volumes) await backend.abortUpload(one.vfolder, one.id, { signal })
    }
    await transact(db, async (trx) => {
      const gone = await trx
        .deleteFrom('uploads')
        .where((eb) => eb.or([eb('id', '=', row.id), eb('final', '=', row.id)]))
        .returningAll()
        .execute()
      for (const { vfolder, reserved_bytes: bytes, reserved_files: files } of gone) {
        await quotas.settleAside(trx, vfolder, { bytes, files })
      }
      if (isFinal && row.named_until !== null) await trx.insertInto('uploads').values(endedRow(row)).execute()
      if (event !== undefined) await app.events.add(trx, event)
      if (isOver(row)) return
      const { vfolder: folder, path, offset: bytes, id: subject, origin_request_id: origin } = row
      const ended = { action: 'upload.end', folder, path, bytes, subject, origin } as const
      const facts = { ...ended, volume: vfolder?.volume }
      // Under the request that began it: nobody knows the one of the clean-up.
      if (event) app.audit.write(trx, { ...facts, outcome: 'expired' }, { request_id: row.request_id })
      else app.audit.write(trx, facts)
    })
    for (const { id } of [row, ...parts]) hashes.forget(id)
  }

  const { create, createDirect } = createBeginning(app, signal)

  const { concatenate, freeParts } = createConcatenation({ app, hashes, locks, find, create })

  /** The upload as it is when nobody writes to it; one that has all its bytes is completed. */
  async function settled(named: Named): Promise<UploadRow> {
    const row = await get(named)
    if (row.process === null && (row.state === 'finished' || !isWhole(row))) return row
    // Taking the lock would interrupt a running concatenation, which would start over.
    if (row.kind === 'final' && row.state === 'open') return row
    return withLock(named, async (row) => {
      if (row.state === 'finished' || !isWhole(row)) return row
      return completeUpload(app, hashes, row, signal)
    })
  }

  /**
   * Goes on with an upload, and completes it with its last byte.
   * @throws {Problem} `upload_finished`, `upload_offset_mismatch`, `file_too_large`, `quota_exceeded`,
   * `checksum_mismatch` or `upload_interrupted`
   */
  function append(named: Named, append: Append & Appending): Promise<UploadRow> {
    return withLock(named, async (row, lock) => {
      if (row.kind === 'final')
        throw new Problem('upload_finished', 'It is put together from others; nothing can follow.')
      if (row.state === 'finished') {
        if (append.isAnnounced) throw offsetMismatch(row.offset)
        throw new Problem('upload_finished', 'It is complete; nothing can follow.')
      }
      if (row.kind === 'direct') throw uploadNotFound()
      if (append.offset !== row.offset) throw offsetMismatch(row.offset)
      if (append.size !== undefined) await declareSize(row, append.size)
      if (append.isAnnounced && row.offset === 0) await beginOnStorage(row)
      if (append.bytes !== 0) await appendBytes(app, hashes, row, lock, append)
      return isWhole(row) ? completeUpload(app, hashes, row, signal) : row
    })
  }

  const { settledAnnounced, appendAnnounced } = createFirstUse({ app, locks, find, create, settled, append })

  return {
    get,

    create,

    /** Stores an upload whose bytes are few and all come with its creation. @throws what `create` and `append` throw */
    storeSmall: (upload: SmallUpload) => storeSmallUpload(app, upload),

    concatenate,

    settled,

    append,

    settledAnnounced,

    appendAnnounced,

    createDirect,

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
        if (row.final !== null && row.state !== 'finished') {
          throw new Problem('upload_locked', 'A file is being made of it.')
        }
        await drop(row, { isFinal: true })
        if (!isOver(row)) tellEnd('ended', row)
      })
    },

    /** Those into a vfolder that are no file yet. */
    list: (vfolder: string, options: { limit: number; after?: string }) => listOpen(db, vfolder, options),

    /** Ends an upload for its vfolder's owner, who has no token of it. @throws {Problem} `upload_not_found` */
    async end(vfolder: string, id: string): Promise<void> {
      const lock = (await isOpenIn(vfolder, id)) ? await locks.take(id) : undefined
      try {
        const row = await find(id)
        if (lock === undefined || row === undefined || isOver(row)) throw uploadNotFound()
        if (row.final !== null) throw new Problem('upload_locked', 'A file is being made of it.')
        await drop(row, { isFinal: true })
        tellEnd('ended', row)
      } finally {
        await lock?.release()
      }
    },

    /** Ends all uploads into a vfolder that is being deleted. */
    async removeOf(vfolder: string): Promise<void> {
      const rows = await db.selectFrom('uploads').selectAll().where('vfolder', '=', vfolder).execute()
      for (const row of rows) {
        const lock = await locks.take(row.id).catch((error) => {
          if (!(error instanceof Problem)) throw error
        })
        await forget(row)
        await lock?.release()
      }
    },

    /**
     * Ends uploads that have expired or lost their vfolder, and completes those that a dead process had begun to
     * complete. Parts end with their final upload.
     */
    async cleanUp(): Promise<void> {
      for (const id of await findLeftovers(db, db.now())) {
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
    await changeHeld(db, row.id, processes.id, { offset: row.offset })
  }

  /** An announced upload is begun there by whoever has its first bytes, again where that was broken off. */
  async function beginOnStorage({ vfolder, id }: UploadRow): Promise<void> {
    const { volume } = await app.vfolders.open(vfolder)
    await volume.backend.beginUpload(vfolder, id, { signal })
  }

  async function declareSize(row: UploadRow, size: number): Promise<void> {
    if (row.size !== null && row.size !== size) {
      throw invalidHeader('Upload-Length', `must stay ${row.size}`)
    }
    if (size > row.max_bytes) throw tooLarge(row.max_bytes)
    if (size < row.offset) {
      const detail = `The upload has ${row.offset} bytes already, and Upload-Length is ${size}.`
      throw new Problem('file_too_large', detail, { members: { maxBytes: size } })
    }
    const { volume } = await app.vfolders.open(row.vfolder)
    await requireSpace(volume.backend, size - row.offset, { signal })
    row.size = size
    await changeHeld(db, row.id, processes.id, { size })
  }

  async function cleanUpOne(id: string): Promise<void> {
    const row = await readUpload(db, id)
    if (row === undefined) return
    const expired = row.expires_at <= db.now()
    if (row.state === 'completing') {
      const completed = await completeUpload(app, hashes, row, signal).catch((err) => {
        log.warn({ err, upload_id: id }, 'upload could not be completed')
      })
      if (completed !== undefined) await freeParts(completed)
      if (completed !== undefined || !expired) return
    }
    if (!expired && (await findVfolder(db, row.vfolder)) !== undefined) return freeParts(row)
    await drop(row, expired && !isOver(row) ? { event: uploadExpired(row) } : {})
    const fields = { upload_id: id, folder: row.vfolder, path: row.path, origin_request_id: row.origin_request_id }
    if (isOver(row)) log.debug(fields, 'upload forgotten')
    else {
      tellEnd(expired ? 'expired' : 'ended', row)
      const what = expired ? 'expired upload removed' : 'upload of a vfolder that is gone removed'
      log.info({ ...fields, bytes: row.offset, reserved_bytes: row.reserved_bytes }, what)
    }
  }
}

function tellEnd(event: 'expired' | 'ended', { kind }: UploadRow): void {
  uploadPassed.give(event, kind === 'direct' ? 'direct' : 'tus')
}

/** Resumable uploads: they survive a lost connection, and a lost process. */
export default fp(
  async (app) => {
    app.decorate('uploads', createUploads(app))
  },
  {
    name: 'uploads',
    dependencies: ['config', 'database', 'processes', 'volumes', 'quotas', 'vfolders', 'events', 'audit'],
  },
)
