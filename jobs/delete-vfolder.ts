import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import fp from 'fastify-plugin'
import { sql } from 'kysely'
import { withRequestId } from '../lib/context.ts'
import type { Database } from '../plugins/storage/database/tables.ts'
import { defineJob } from '../plugins/work/job-queue/job.ts'

/** What was removed so far. */
const isAmount = TypeCompiler.Compile(Type.Object({ files: Type.Integer(), bytes: Type.Integer() }))

/** Frees the bytes of a vfolder that the API does not show any more, and then forgets it. */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'delete-vfolder',
        payload: Type.Object({}),
        concurrency: 4,
        // Half of a vfolder is of no use to anybody.
        cancellable: false,

        async run({ folder, checkpoint, signal, progress, save }) {
          const row = await app.database
            .selectFrom('vfolders')
            .selectAll()
            .where('id', '=', folder ?? '')
            .executeTakeFirst()
          if (row?.state !== 'deleting') return undefined
          await app.uploads.removeOf(row.id)
          const before = isAmount.Check(checkpoint) ? checkpoint : { files: 0, bytes: 0 }
          let removed = before
          await app.volumes.get(row.volume).backend.removeFolder(row.id, {
            signal,
            onProgress(done) {
              removed = { files: before.files + done.files, bytes: before.bytes + done.bytes }
              save(removed)
              progress(removed, { files: row.usage_files, bytes: row.usage_bytes })
            },
          })
          return { ...removed }
        },

        async ended({ folder }, end, db) {
          if (end !== 'succeeded' || folder === null) return
          const row = await db.selectFrom('vfolders').select('state').where('id', '=', folder).executeTakeFirst()
          if (row?.state !== 'deleting') return
          await db.deleteFrom('reservations').where('vfolder', '=', folder).execute()
          await db.deleteFrom('vfolders').where('id', '=', folder).execute()
        },
      }),
    )

    /** A deletion is not given up, however long its volume is away; it waits for one that is not configured. */
    async function startAgain(): Promise<void> {
      const stuck = await app.database
        .selectFrom('vfolders')
        .select('id')
        .where('state', '=', 'deleting')
        .where(
          'volume',
          'in',
          app.volumes.all().map(({ name }) => name),
        )
        .where('id', 'not in', (eb) =>
          eb
            .selectFrom('jobs')
            .select((jobs) => jobs.fn.coalesce('jobs.vfolder', sql.lit('')).as('vfolder'))
            .where('kind', '=', 'delete-vfolder')
            .where('jobs.state', 'in', ['queued', 'running']),
        )
        .execute()
      for (const { id } of stuck) {
        const last = await app.jobs.latest('delete-vfolder', id)
        await withRequestId(() => app.database.transaction().execute((trx) => again(id, trx)), last?.requestId)()
      }
    }

    async function again(id: string, trx: Database): Promise<void> {
      // By now another one of that ID may be there.
      const { numUpdatedRows } = await trx
        .updateTable('vfolders')
        .set({ state: 'deleting' })
        .where('id', '=', id)
        .where('state', '=', 'deleting')
        .executeTakeFirstOrThrow()
      if (numUpdatedRows > 0n) await app.vfolders.startDeletion(id, trx)
    }

    app.addHook('onReady', async () => {
      app.schedule('restart-deletions', app.config.uploadCleanupIntervalSeconds, startAgain)
    })
  },
  {
    name: 'delete-vfolder',
    dependencies: ['config', 'database', 'volumes', 'scheduler', 'job-queue', 'vfolders', 'uploads'],
  },
)
