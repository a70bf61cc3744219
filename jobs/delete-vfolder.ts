import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import fp from 'fastify-plugin'
import { withRequestId } from '../lib/context.ts'
import { Problem } from '../lib/problems.ts'
import { transact } from '../plugins/storage/database/transact.ts'
import { beginDeletion, find, forget, listCreating, listDeleting } from '../plugins/vfolders/rows.ts'
import { RemovalPayload } from '../plugins/vfolders/vfolders.ts'
import { defineJob } from '../plugins/work/job-queue/job.ts'

/** What was removed so far. */
const isAmount = TypeCompiler.Compile(Type.Object({ files: Type.Integer(), bytes: Type.Integer() }))

/** Longer than any creation takes: its process has died, or had no database to take it back. */
const longestCreationMilliseconds = 3_600_000

/** Frees the bytes of a vfolder that the API does not show any more, and then forgets it. */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'delete-vfolder',
        payload: RemovalPayload,
        concurrency: 4,
        // Half of a vfolder is of no use to anybody.
        cancellable: false,
        told: ({ quotaScope }) => ({ ...(quotaScope !== undefined && { quotaScope }) }),

        async run({ folder, checkpoint, signal, confirm, progress, save }) {
          const vfolder = await find(app.database, folder ?? '')
          if (vfolder?.state !== 'deleting') return undefined
          const { id, volume, usage } = vfolder
          await app.uploads.removeOf(id)
          const before = isAmount.Check(checkpoint) ? checkpoint : { files: 0, bytes: 0 }
          let removed = before
          // A vfolder of that ID that is there later is another one.
          await confirm()
          const { backend, identity } = app.volumes.get(volume)
          // In another storage there is nothing to remove, which would look like success.
          await identity.look()
          await backend.removeFolder(id, {
            signal,
            onProgress(done) {
              removed = { files: before.files + done.files, bytes: before.bytes + done.bytes }
              save(removed)
              progress(removed, { files: usage.files, bytes: usage.bytes })
            },
          })
          return { ...removed }
        },

        async ended({ folder }, end, db) {
          if (end !== 'succeeded' || folder === null) return
          if (!(await forget(db, folder))) return
          await app.trash.forget(db, folder)
          await app.quotas.forget(db, folder)
        },

        async prepareRetry({ id, folder }, db) {
          // Locks the vfolder, as whoever starts its deletion does.
          const isLeft = folder !== null && (await beginDeletion(db, folder, { state: 'deleting' })) !== undefined
          if (!isLeft) throw new Problem('job_not_retryable', 'Nothing of the vfolder is left to delete.')
          const last = await app.jobs.latest('delete-vfolder', { folder }, db)
          if (last?.id !== id) throw new Problem('job_not_retryable', `The job ${last?.id} deletes the vfolder by now.`)
        },
      }),
    )

    /** A deletion is not given up, however long its volume is away; it waits for one that is not configured. */
    async function startAgain(): Promise<void> {
      const volumes = app.volumes.all().map(({ name }) => name)
      // A job that has not ended may still work in a vfolder of its own.
      const but = [app.jobs.selectFolders('delete-vfolder'), app.jobs.selectUnended()]
      const stuck = await listDeleting(app.database, volumes, but)
      for (const id of stuck) {
        const last = await app.jobs.latest('delete-vfolder', { folder: id })
        const start = () => transact(app.database, (trx) => app.vfolders.startDeletion(id, trx, { state: 'deleting' }))
        await withRequestId(start, last?.requestId)()
      }
    }

    /** What was being made when its process died, and was not asked for again. */
    async function endCreations(): Promise<void> {
      const volumes = app.volumes.all().map(({ name }) => name)
      const before = new Date(app.database.now() - longestCreationMilliseconds)
      for (const id of await listCreating(app.database, volumes, before)) {
        await transact(app.database, (trx) => app.vfolders.startDeletion(id, trx, { state: 'creating' }))
        app.log.warn({ folder: id }, 'a vfolder whose creation came to no end is removed')
      }
    }

    app.addHook('onReady', async () => {
      app.schedule('restart-deletions', app.config.uploadCleanupIntervalSeconds, startAgain)
      app.schedule('end-creations', app.config.uploadCleanupIntervalSeconds, endCreations)
    })
  },
  {
    name: 'delete-vfolder',
    dependencies: ['config', 'database', 'volumes', 'scheduler', 'job-queue', 'vfolders', 'quotas', 'uploads', 'trash'],
  },
)
