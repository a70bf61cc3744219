import type { FolderNumbers } from '../../backends/definition.ts'
import type { Database } from './database/tables.ts'
import { transact } from './database/transact.ts'

/** The numbers that a volume knows its vfolders by, where it asks for them. */
export function folderNumbers(db: Database, volume: string): FolderNumbers {
  async function find(on: Database, folder: string): Promise<number | undefined> {
    const row = await on
      .selectFrom('folder_numbers')
      .select('number')
      .where('volume', '=', volume)
      .where('folder', '=', folder)
      .executeTakeFirst()
    return row?.number
  }

  return {
    find: (folder) => find(db, folder),

    allot(folder, { taken, skip } = { taken: 0, skip: 1 }) {
      return transact(db, async (trx) => {
        // Whoever has changed it is alone until the end, so that of several that ask for one vfolder the first decides.
        const { number } = await trx
          .updateTable('last_folder_number')
          .set((eb) => ({ number: eb('number', '+', skip) }))
          .returning('number')
          .executeTakeFirstOrThrow()
        const known = await find(trx, folder)
        if (known !== undefined && known !== taken) return known
        await trx
          .insertInto('folder_numbers')
          .values({ volume, folder, number })
          .onConflict((conflict) => conflict.columns(['volume', 'folder']).doUpdateSet({ number }))
          .execute()
        return number
      })
    },

    async forget(folder) {
      await db.deleteFrom('folder_numbers').where('volume', '=', volume).where('folder', '=', folder).execute()
    },
  }
}
