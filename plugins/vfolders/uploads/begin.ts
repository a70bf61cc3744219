import type { FastifyInstance } from 'fastify'
import type { UploadRow } from './rows.ts'

/**
 * Begins an upload on the storage. When that fails its room is freed at once, and the cleanup removes the rest later:
 * the storage may be away for longer.
 */
export async function beginOrFreeRoom<T>(
  { database, quotas }: FastifyInstance,
  { id, vfolder, reserved_bytes: bytes, reserved_files: files }: UploadRow,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    await database.transaction().execute(async (trx) => {
      const over = { reserved_bytes: 0, reserved_files: 0, expires_at: Date.now() }
      const { numUpdatedRows } = await trx.updateTable('uploads').set(over).where('id', '=', id).executeTakeFirst()
      if (numUpdatedRows > 0n) await quotas.settleAside(trx, vfolder, { bytes, files })
    })
    throw error
  }
}
