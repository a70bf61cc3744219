import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Entry } from '../../../backends/backend.ts'
import type { EntryPath } from '../../../backends/path.ts'
import { Problem } from '../../../lib/problems.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import type { Job } from '../../work/job-queue/job.ts'
import { requireTrash } from './places.ts'
import { type PutOptions, putEntries } from './put.ts'
import { type RestoreOptions, restoreEntry } from './restore.ts'
import * as rows from './rows.ts'
import { settleAll } from './settle.ts'

declare module 'fastify' {
  interface FastifyInstance {
    trash: ReturnType<typeof createTrash>
  }
}

/** An entry that was deleted and can be restored. */
export interface TrashedEntry {
  id: string
  /** Where it was. */
  path: string
  type: Entry['type']
  bytes: number
  files: number
  countsTowardsQuota: boolean
  deletedAt: string
}

function createTrash(app: FastifyInstance) {
  const db = app.database

  async function enqueue(folder: string, volume: string, until: number, trx: Database): Promise<Job> {
    return app.jobs.enqueue({ kind: 'empty-trash', folder, volume, payload: { until } }, trx)
  }

  return {
    /** Whether what is deleted is kept for a while. */
    isOn: app.config.trashRetentionSeconds > 0,

    /** Puts entries of a vfolder into its trash. @throws {Problem} with what was done before it */
    put: (folder: string, paths: EntryPath[], options: PutOptions) => putEntries(app, folder, paths, options),

    /** What can be restored, the latest first. */
    async list(
      folder: string,
      options: { limit: number; before?: rows.Position | undefined },
    ): Promise<TrashedEntry[]> {
      const { volume } = await app.vfolders.open(folder)
      requireTrash(volume)
      return (await rows.list(db, folder, options)).map(toTrashed)
    },

    /** Moves an entry back; @throws as `restoreEntry` does. */
    restore: (folder: string, id: string, options: RestoreOptions) => restoreEntry(app, folder, id, options),

    /** Queues the removal of one entry, or of all, for good. @throws {Problem} `trashed_entry_not_found` or `_busy` */
    async empty(folder: string, id?: string): Promise<Job> {
      const { volume } = await app.vfolders.ready(folder)
      return transact(db, async (trx) => {
        app.audit.write(trx, { action: 'trash.empty', outcome: 'begun', folder, volume, subject: id })
        if (id === undefined) return enqueue(folder, volume, db.now(), trx)
        if (!(await rows.beginEmptying(trx, { vfolder: folder, id }, db.now()))) throw await whyNot(trx, folder, id)
        return enqueue(folder, volume, 0, trx)
      })
    },

    /** Queues the removal of what is in the trash for longer than it is to be kept. */
    async emptyExpired(): Promise<void> {
      const until = db.now() - app.config.trashRetentionSeconds * 1000
      for (const folder of await rows.listDueFolders(db, until, app.jobs.selectFolders('empty-trash'))) {
        const volume = await app.vfolders.ready(folder).then(
          (vfolder) => vfolder.volume,
          () => undefined,
        )
        // What is in the trash of a vfolder that is in the trash itself goes with it.
        if (volume !== undefined) await transact(db, (trx) => enqueue(folder, volume, until, trx))
      }
    },

    settle: (signal: AbortSignal) => settleAll(app, signal),

    /** How much of it is in the usage of the vfolder. */
    counted: (folder: string) => rows.countedTrash(db, folder),

    /** Of a vfolder that is gone. */
    forget: (trx: Database, folder: string) => rows.forgetAll(trx, folder),
  }
}

async function whyNot(on: Database, folder: string, id: string): Promise<Problem> {
  const row = await rows.find(on, folder, id)
  if (row !== undefined) return new Problem('trashed_entry_busy', `The entry ${row.path} is being restored.`)
  return new Problem('trashed_entry_not_found', `There is no entry ${id} in the trash.`)
}

function toTrashed({ id, path, type, bytes, files, counts, deleted_at }: rows.TrashRow): TrashedEntry {
  const deletedAt = new Date(deleted_at).toISOString()
  return { id, path, type, bytes, files, countsTowardsQuota: counts === 1, deletedAt }
}

/** What was deleted and can be restored. */
export default fp(
  async (app) => {
    app.decorate('trash', createTrash(app))
  },
  {
    name: 'trash',
    dependencies: ['config', 'database', 'volumes', 'vfolders', 'quotas', 'job-queue', 'processes', 'audit'],
  },
)
