import type { FastifyInstance } from 'fastify'
import type { Amount } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import type { UploadRow } from './rows.ts'

/** How much is set aside at once for an upload that does not say how much is to come. */
const step = 64 * 1024 * 1024

/** What a file of so many bytes takes more than the one that it replaces. */
export function roomFor(bytes: number, replaced: Amount): Amount {
  return { bytes: Math.max(0, bytes - replaced.bytes), files: Math.max(0, 1 - replaced.files) }
}

/**
 * Sets more room aside for an upload until `needed` is covered. It belongs to the upload and not to a process: it is
 * written down in the upload's own row, and ends with that.
 * @throws {Problem} `quota_exceeded`
 */
export async function coverRoom(app: FastifyInstance, row: UploadRow, needed: Amount, ahead = false): Promise<void> {
  const missing = {
    bytes: Math.max(0, needed.bytes - row.reserved_bytes),
    files: Math.max(0, needed.files - row.reserved_files),
  }
  if (missing.bytes === 0 && missing.files === 0) return
  if (ahead && missing.bytes < step) {
    const more = { ...missing, bytes: step }
    const refused = await setAside(app, row, more).catch((error) => {
      if (error instanceof Problem && error.code === 'quota_exceeded') return true
      throw error
    })
    if (refused !== true) return
  }
  await setAside(app, row, missing)
}

async function setAside(app: FastifyInstance, row: UploadRow, by: Amount): Promise<void> {
  await app.database.transaction().execute(async (trx) => {
    await app.quotas.setAside(trx, row.vfolder, by)
    await trx
      .updateTable('uploads')
      .set((eb) => ({
        reserved_bytes: eb('reserved_bytes', '+', by.bytes),
        reserved_files: eb('reserved_files', '+', by.files),
      }))
      .where('id', '=', row.id)
      .execute()
  })
  row.reserved_bytes += by.bytes
  row.reserved_files += by.files
}
