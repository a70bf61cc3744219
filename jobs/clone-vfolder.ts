import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Amount, Cloned } from '../backends/backend.ts'
import { Problem } from '../lib/problems.ts'
import { countUsage } from '../plugins/vfolders/usage.ts'
import { ClonePayload, type Vfolder } from '../plugins/vfolders/vfolders.ts'
import { type Attempt, defineJob } from '../plugins/work/job-queue/job.ts'
import { cloneByStreaming } from './clone-by-streaming.ts'

/** Fills a new vfolder with what is in another one; nobody can use it before it is whole. */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'clone-vfolder',
        payload: ClonePayload,
        concurrency: 2,
        cancellable: true,

        async run(attempt) {
          const source = await app.vfolders.ready(attempt.payload.source)
          const target = await app.vfolders.get(attempt.folder ?? '')
          const { files, bytes, changed, changedCount } = await clone(app, source, target, attempt)
          // A source that was deleted meanwhile may have been gone in part when it was read.
          await app.vfolders.ready(source.id)
          await reserveExactly(app, target.id, { files, bytes })
          if (changedCount > 0) app.log.warn({ changed, changed_count: changedCount }, 'the source changed meanwhile')
          return { source: source.id, files, bytes, changed, changedCount }
        },

        async ended({ folder, result }, end, db) {
          if (folder === null) return
          if (end === 'succeeded') {
            await db
              .updateTable('vfolders')
              .set({
                state: 'ready',
                usage_files: Number(result?.files),
                usage_bytes: Number(result?.bytes),
                usage_synced_at: new Date().toISOString(),
                reserved_files: 0,
                reserved_bytes: 0,
              })
              .where('id', '=', folder)
              .where('state', '=', 'cloning')
              .execute()
          } else {
            await app.vfolders.startDeletion(folder, db)
          }
        },
      }),
    )
  },
  { name: 'clone-vfolder', dependencies: ['job-queue', 'vfolders', 'volumes', 'quotas', 'database'] },
)

async function clone(app: FastifyInstance, source: Vfolder, target: Vfolder, attempt: Attempt): Promise<Cloned> {
  const { signal, checkpoint, progress, save } = attempt
  const from = app.volumes.get(source.volume)
  const to = app.volumes.get(target.volume)
  await to.backend.createFolder(target.id, { signal })

  const total = await countUsage(from.backend, source.id, signal)
  await reserveExactly(app, target.id, total)
  const options = { signal, checkpoint, onCheckpoint: save, onProgress: (done: Amount) => progress(done, total) }
  options.onProgress({ files: 0, bytes: 0 })
  const cloned =
    from === to && from.backend.clone !== undefined
      ? await from.backend.clone(source.id, target.id, options)
      : await cloneByStreaming({ volume: from, folder: source.id }, { volume: to, folder: target.id }, options)
  progress(cloned, cloned)
  return cloned
}

/** What was reserved by the counters of the source, which may have drifted, becomes what is really there. */
async function reserveExactly(app: FastifyInstance, id: string, wanted: Amount): Promise<void> {
  await app.database.transaction().execute(async (trx) => {
    const row = await trx
      .selectFrom('vfolders')
      .select(['reserved_files', 'reserved_bytes', 'state'])
      .where('id', '=', id)
      .executeTakeFirst()
    if (row?.state !== 'cloning') throw new Problem('vfolder_not_found', `There is no vfolder ${id} to clone into.`)
    await app.quotas.setAside(trx, id, {
      files: wanted.files - row.reserved_files,
      bytes: wanted.bytes - row.reserved_bytes,
    })
  })
}
