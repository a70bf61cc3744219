import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Amount, Backend, Cloned } from '../backends/backend.ts'
import { cloneAgain } from '../plugins/vfolders/clone-again.ts'
import { finishClone, type Vfolder } from '../plugins/vfolders/rows.ts'
import { applyQuota } from '../plugins/vfolders/storage-quota.ts'
import { vfolderCloned } from '../plugins/vfolders/told.ts'
import { countFiles } from '../plugins/vfolders/usage.ts'
import { ClonePayload } from '../plugins/vfolders/vfolders.ts'
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

        told: ({ source: folder, target, sourceScope = null }) => ({
          ...(target && { quotaScope: target.quotaScope, source: { folder, quotaScope: sourceScope } }),
        }),

        audited: ({ source }, { bytes }) => ({ action: 'folder.clone', subject: source, bytes: Number(bytes) }),

        async run(attempt) {
          const source = await app.vfolders.ready(attempt.payload.source)
          const target = await app.vfolders.get(attempt.folder ?? '')
          const { files, bytes, changed, changedCount } = await clone(app, source, target, attempt)
          // A source that was deleted meanwhile may have been gone in part when it was read.
          await app.vfolders.readyNow(source.id)
          await app.quotas.setAsideExactly(target.id, { files, bytes })
          // What is cloned on the storage may have the limits of its source.
          await applyQuota(app, target, attempt)
          if (changedCount > 0) app.log.warn({ changed, changed_count: changedCount }, 'the source changed meanwhile')
          return { source: source.id, files, bytes, changed, changedCount }
        },

        async ended({ folder, payload, result }, end, db) {
          if (folder === null) return
          if (end === 'succeeded') {
            const cloned = { files: Number(result?.files), bytes: Number(result?.bytes) }
            await finishClone(db, folder, cloned)
            await app.events.add(db, vfolderCloned(folder, payload.source, cloned))
          } else {
            await app.vfolders.startDeletion(folder, db)
          }
        },

        prepareRetry: (job, db) => cloneAgain(app, job, db),
      }),
    )
  },
  { name: 'clone-vfolder', dependencies: ['job-queue', 'vfolders', 'volumes', 'quotas', 'database', 'events'] },
)

async function clone(
  app: FastifyInstance,
  source: Vfolder,
  target: Vfolder,
  attempt: Attempt,
): Promise<Cloned & Amount> {
  const { signal, checkpoint, confirm, progress, save } = attempt
  const from = app.volumes.get(source.volume)
  const to = app.volumes.get(target.volume)
  await to.backend.createFolder(target.id, { signal })
  // So that the storage keeps them while it is filled.
  await applyQuota(app, target, attempt)

  const total = await amountOf(source, from.backend, signal)
  // Room was set aside by the counters of the source, which may have drifted.
  await app.quotas.setAsideExactly(target.id, total)
  const options = { signal, checkpoint, onCheckpoint: save, onProgress: (done: Amount) => progress(done, total) }
  options.onProgress({ files: 0, bytes: 0 })
  // Once another process has finished the vfolder, its users may have changed what is in it.
  await confirm()
  const cloned =
    from === to && from.backend.clone !== undefined
      ? await from.backend.clone(source.id, target.id, options)
      : await cloneByStreaming({ volume: from, folder: source.id }, { volume: to, folder: target.id }, options)
  const whole = { ...total, ...cloned }
  progress(whole, whole)
  return whole
}

/** What the storage says it has, at once, since it may be cloned at once; files that it does not count are as they were. */
async function amountOf({ id, usage }: Vfolder, backend: Backend, signal: AbortSignal): Promise<Amount> {
  if (backend.usage === undefined) return countFiles(backend, id, signal)
  const { bytes, files = usage.files } = await backend.usage(id, { signal })
  return { bytes, files }
}
