import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Amount } from '../backends/backend.ts'
import { defineJob } from '../plugins/job-queue/job.ts'

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

        async run({ folder, signal, progress }) {
          const row = await app.database
            .selectFrom('vfolders')
            .selectAll()
            .where('id', '=', folder ?? '')
            .executeTakeFirst()
          if (row === undefined) return undefined
          await app.uploads.removeOf(row.id)
          let removed: Amount = { files: 0, bytes: 0 }
          await app.volumes.get(row.volume).backend.removeFolder(row.id, {
            signal,
            onProgress(done) {
              removed = done
              progress(done, { files: row.usage_files, bytes: row.usage_bytes })
            },
          })
          return { ...removed }
        },

        async ended({ folder }, end, db) {
          if (end !== 'succeeded' || folder === null) return
          await db.deleteFrom('reservations').where('vfolder', '=', folder).execute()
          await db.deleteFrom('vfolders').where('id', '=', folder).execute()
        },
      }),
    )
  },
  { name: 'delete-vfolder', dependencies: ['job-queue', 'volumes', 'database', 'uploads'] },
)
