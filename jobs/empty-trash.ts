import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { difference, isNothing, nothing, sum } from '../backends/amount.ts'
import type { Amount } from '../backends/backend.ts'
import { EntryAccessDenied, NotFound } from '../backends/errors.ts'
import { parsePath } from '../backends/path.ts'
import { withRequestId } from '../lib/context.ts'
import { transact } from '../plugins/storage/database/transact.ts'
import { count, find, listTrashed } from '../plugins/vfolders/rows.ts'
import { asCalled, requireTrash } from '../plugins/vfolders/trash/places.ts'
import { beginEmptying, forget, listDue, type TrashRow } from '../plugins/vfolders/trash/rows.ts'
import { type Attempt, defineJob } from '../plugins/work/job-queue/job.ts'

/** How many entries are asked for at once. */
const page = 100

/** Removes for good what was deleted: entries by a job a vfolder, and vfolders by the job of any deletion. */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'empty-trash',
        payload: Type.Object({ until: Type.Integer({ description: 'what was deleted by then' }) }),
        concurrency: 2,
        // Half of an entry is of no use to anybody.
        cancellable: false,

        audited: (_, { entries, bytes }) => ({ action: 'trash.empty', count: Number(entries), bytes: Number(bytes) }),

        async run(attempt) {
          const vfolder = await find(app.database, attempt.folder ?? '')
          // What is in deletion, or in the trash, is removed as a whole.
          if (vfolder?.state !== 'ready') return undefined
          let emptied = nothing
          let entries = 0
          // One that the storage denies must not keep the others from being removed.
          const denied = new Map<string, unknown>()
          while (denied.size < page) {
            const options = { time: attempt.payload.until, but: [...denied.keys()], limit: page }
            const due = await listDue(app.database, vfolder.id, options)
            if (due.length === 0) break
            for (const row of due) {
              if (!(await beginEmptying(app.database, row, app.database.now()))) continue
              try {
                emptied = sum(emptied, await emptyEntry(app, vfolder.volume, row, attempt, emptied))
                entries++
              } catch (error) {
                if (!(error instanceof EntryAccessDenied)) throw asCalled(error, row)
                denied.set(row.id, asCalled(error, row))
              }
            }
          }
          const [first] = denied.values()
          if (first !== undefined) throw first
          return { entries, ...emptied }
        },
      }),
    )

    /** Each under the request that has put it there. */
    async function emptyFolders(): Promise<void> {
      const volumes = app.volumes.all().map(({ name }) => name)
      const until = app.database.now() - app.config.trashRetentionSeconds * 1000
      for (const { id, requestId } of await listTrashed(app.database, volumes, until)) {
        const remove = () =>
          transact(app.database, async (trx) => {
            // It may have been restored meanwhile, and deleted again.
            const begun = await app.vfolders.startDeletion(id, trx, { state: 'trashed', trashedBefore: until })
            if (begun === undefined) return
            app.audit.write(trx, { action: 'folder.delete', folder: id, volume: begun.volume, subject: begun.job.id })
          })
        await withRequestId(remove, requestId ?? undefined)()
      }
    }

    app.addHook('onReady', async () => {
      app.schedule('empty-trash', app.config.uploadCleanupIntervalSeconds, async (signal) => {
        await app.trash.settle(signal)
        await app.trash.emptyExpired()
        await emptyFolders()
      })
    })
  },
  {
    name: 'empty-trash',
    dependencies: ['config', 'database', 'volumes', 'scheduler', 'job-queue', 'vfolders', 'trash', 'audit'],
  },
)

/** The row goes last: until then it tells what there is to remove, and what it takes of the quota. */
async function emptyEntry(
  app: FastifyInstance,
  volume: string,
  row: TrashRow,
  { signal, confirm, progress, log }: Pick<Attempt, 'signal' | 'confirm' | 'progress' | 'log'>,
  before: Amount,
): Promise<Amount> {
  const backend = requireTrash(app.volumes.get(volume))
  await confirm()
  let removed = nothing
  const onProgress = (done: Amount) => {
    removed = done
    progress(sum(before, done))
  }
  const options = { recursive: true, signal, onProgress }
  try {
    onProgress(await backend.remove(backend.trash(row.vfolder), parsePath(row.id), options))
  } catch (error) {
    if (!(error instanceof NotFound)) {
      if (!isNothing(removed)) await app.vfolders.recount(row.vfolder)
      throw error
    }
  }
  await transact(app.database, async (trx) => {
    const gone = await forget(trx, row.id)
    if (gone?.counts === 1) await count(trx, row.vfolder, difference(nothing, gone))
  })
  // It could not be counted when it was deleted, or somebody has changed it since.
  if (!isNothing(difference(removed, row))) await app.vfolders.recount(row.vfolder)
  log.info({ folder: row.vfolder, path: row.path, origin_request_id: row.request_id }, 'entry removed from the trash')
  progress(sum(before, row))
  return { files: row.files, bytes: row.bytes }
}
