import type { FastifyInstance } from 'fastify'
import type { Amount } from '../../../backends/backend.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { covers, missing, missingAhead } from '../quotas/room.ts'
import { holdUpload, type UploadRow } from './rows.ts'

/**
 * Sets more room aside for an upload until `needed` is covered. It belongs to the upload and not to a process: it is
 * written down in the upload's own row, and ends with the row.
 * @param ahead also for the bytes that follow, whose number the client has not told
 * @throws {Problem} `quota_exceeded` or `upload_interrupted`
 */
export async function coverRoom(app: FastifyInstance, row: UploadRow, needed: Amount, ahead = false): Promise<void> {
  const { id, vfolder } = row
  const held = { bytes: row.reserved_bytes, files: row.reserved_files }
  if (covers(held, needed)) return
  const take = async (trx: Database) => {
    await holdUpload(trx, id, app.processes.id)
    const more = ahead ? await missingAhead(trx, vfolder, held, needed) : missing(held, needed)
    await app.quotas.setAside(trx, vfolder, more, { held })
    await trx
      .updateTable('uploads')
      .set((eb) => ({
        reserved_bytes: eb('reserved_bytes', '+', more.bytes),
        reserved_files: eb('reserved_files', '+', more.files),
      }))
      .where('id', '=', id)
      .execute()
    return more
  }
  const more = await app.quotas.asking(vfolder, () => transact(app.database, take))
  row.reserved_bytes += more.bytes
  row.reserved_files += more.files
}
