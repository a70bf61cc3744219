import type { FastifyInstance } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import type { Permission } from '../../access/signed-urls.ts'
import { transact } from '../../storage/database/transact.ts'
import { appendBytes } from './append.ts'
import { completeUpload } from './complete.ts'
import type { createHashes } from './hashes.ts'
import type { createLocks, Lock } from './locks.ts'
import {
  changeHeld,
  hashOf,
  holdUpload,
  isWhole,
  type Named,
  type NewUpload,
  newToken,
  requireUpload,
  type UploadRow,
  uploadNotFound,
} from './rows.ts'

interface Concatenation {
  app: FastifyInstance
  hashes: ReturnType<typeof createHashes>
  locks: ReturnType<typeof createLocks>
  find(id: string): Promise<UploadRow | undefined>
  create(upload: NewUpload, parts: UploadRow[]): Promise<{ id: string }>
}

/** The request for a final upload; `parts` is how it names its parts. */
export type NewFinal = Omit<NewUpload, 'kind' | 'size'> & { parts: string }

/**
 * Final uploads. The parts belong to their final upload from its first moment on, so a repeated request finds it again:
 * it waits while another request makes the file, goes on after a crash, and is told of a file that is there already.
 */
export function createConcatenation({ app, hashes, locks, find, create }: Concatenation) {
  const { database: db, processes, quotas } = app
  // The file is made also when the client does not wait for it any more.
  const { signal: never } = new AbortController()

  /** Finds the final upload of these parts, or begins one. */
  async function findOrCreateFinal(upload: NewFinal, parts: Named[]): Promise<string> {
    const taken: Lock[] = []
    try {
      const rows: UploadRow[] = []
      // In one order, so that no two requests wait for a part that the other one has.
      for (const { id, token } of parts.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
        requireUpload(await find(id), token, db.now())
        taken.push(await locks.take(id))
        rows.push(requireUsable(requireUpload(await find(id), token, db.now()), upload.permission))
      }
      const bound = rows.find(({ final }) => final !== null)?.final ?? null
      if (bound === null) return (await create(toFinalUpload(upload, rows), rows)).id
      const begun = await find(bound)
      if (begun?.parts === upload.parts && begun.path === upload.permission.path) return begun.id
      throw new Problem('upload_finished', 'A part belongs to another file.')
    } finally {
      for (const lock of taken) await lock.release()
    }
  }

  async function makeFile(final: UploadRow, parts: Named[], lock: Lock): Promise<void> {
    if (final.state === 'open') {
      try {
        await joinParts(final, parts, lock)
      } catch (error) {
        await giveUp(final)
        throw error
      }
    }
    await completeUpload(app, hashes, final, never)
  }

  async function joinParts(final: UploadRow, parts: Named[], lock: Lock): Promise<void> {
    const { vfolder, id } = final
    const { volume } = await app.vfolders.open(vfolder)
    const { backend } = volume
    const rows = await db.selectFrom('uploads').select(['id', 'offset']).where('final', '=', id).execute()
    const sizes = new Map(rows.map((row) => [row.id, row.offset]))
    async function* bytes(end: AbortSignal): AsyncGenerator<Buffer> {
      for (const part of parts) {
        const file = await backend.readUpload(vfolder, part.id, { signal: never })
        try {
          for await (const chunk of file.chunks({ start: 0, end: sizes.get(part.id) ?? 0 })) {
            if (end.aborted) return
            yield chunk
          }
        } finally {
          file.close()
        }
      }
    }
    // A crash may have come before the upload was begun on the storage.
    await backend.beginUpload(vfolder, id, { signal: never })
    if (isWhole(final)) return
    await appendBytes(app, hashes, final, lock, { offset: 0, bytes: final.size ?? 0, read: bytes })
  }

  /** Makes everything as it was before, with the room that the parts had. */
  async function giveUp({ id, vfolder }: UploadRow): Promise<void> {
    const { volume } = await app.vfolders.open(vfolder)
    // Bytes that another process has gone on with must stay.
    await transact(db, (trx) => holdUpload(trx, id, processes.id))
    await volume.backend.abortUpload(vfolder, id, { signal: never })
    await transact(db, async (trx) => {
      await holdUpload(trx, id, processes.id)
      const parts = await trx
        .updateTable('uploads')
        .set((eb) => ({ final: null, reserved_bytes: eb.ref('offset') }))
        .where('final', '=', id)
        .returning('reserved_bytes')
        .execute()
      const gone = await trx.deleteFrom('uploads').where('id', '=', id).returningAll().executeTakeFirst()
      if (gone === undefined) return
      const bytes = gone.reserved_bytes - parts.reduce((sum, part) => sum + part.reserved_bytes, 0)
      await quotas.settleAside(trx, vfolder, { bytes, files: gone.reserved_files })
    })
    hashes.forget(id)
  }

  /** Frees the bytes of parts whose file is there. Their rows stay for as long as that of the final upload. */
  async function freeParts({ id: final, vfolder }: UploadRow): Promise<void> {
    const { volume } = await app.vfolders.open(vfolder)
    const rows = await db
      .selectFrom('uploads')
      .select('id')
      .where('final', '=', final)
      .where('state', '!=', 'finished')
      .execute()
    if (rows.length === 0) return
    for (const { id } of rows) {
      await volume.backend.abortUpload(vfolder, id, { signal: never })
      hashes.forget(id)
    }
    await db.updateTable('uploads').set({ state: 'finished' }).where('final', '=', final).execute()
  }

  return {
    freeParts,

    /**
     * Makes one file of the parts, in order.
     * @param signal ends the wait for another request that makes the file
     * @throws {Problem} `upload_incomplete`, `upload_finished`, `file_too_large`, `quota_exceeded`,
     * `upload_interrupted`
     */
    async concatenate(upload: NewFinal, parts: Named[], signal: AbortSignal) {
      const id = await findOrCreateFinal(upload, parts)
      const lock = await locks.await(id, signal)
      if (lock === undefined) throw concatenationFailed()
      try {
        const final = await find(id)
        if (final === undefined) throw concatenationFailed()
        if (final.state !== 'finished') await makeFile(final, parts, lock)
        await freeParts(final)
        // The newest request is right, and the token of the one before is not known any more.
        const token = newToken()
        await changeHeld(db, id, processes.id, { token_hash: hashOf(token) })
        return { id, token }
      } finally {
        await lock.release()
      }
    },
  }
}

/** Told to requests that waited for another one's concatenation. */
function concatenationFailed(): Problem {
  return new Problem('upload_interrupted', 'Another request could not make the file of these parts.')
}

function requireUsable(row: UploadRow, { folder }: Permission): UploadRow {
  if (row.kind !== 'partial' || row.vfolder !== folder) throw uploadNotFound()
  if (row.size === row.offset) return row
  throw new Problem('upload_incomplete', `A part has ${row.offset} of ${row.size ?? 'unknown many'} bytes.`)
}

function toFinalUpload(upload: NewFinal, parts: UploadRow[]): NewUpload {
  const size = parts.reduce((sum, { offset }) => sum + offset, 0)
  return { ...upload, kind: 'final', size }
}
