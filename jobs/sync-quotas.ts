import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { nothing } from '../backends/amount.ts'
import type { Amount } from '../backends/backend.ts'
import { Problem } from '../lib/problems.ts'
import type { Vfolder } from '../plugins/vfolders/rows.ts'
import { countUsage, putUsageRight } from '../plugins/vfolders/usage.ts'
import { defineJob, hasEnded } from '../plugins/work/job-queue/job.ts'

/** How many vfolders are asked for at once. */
const page = 100

/** After each vfolder it rests for as long as that took, up to this, so that it takes at most half of a disk's time. */
const longestRestMilliseconds = 10_000

const Checkpoint = Type.Object({
  after: Type.String(),
  folders: Type.Integer(),
  failed: Type.Integer(),
  drifted: Type.Integer(),
  files: Type.Integer(),
  bytes: Type.Integer(),
  driftFiles: Type.Integer(),
  driftBytes: Type.Integer(),
})
const isCheckpoint = TypeCompiler.Compile(Checkpoint)
const nothingYet = { after: '', folders: 0, failed: 0, drifted: 0, files: 0, bytes: 0, driftFiles: 0, driftBytes: 0 }

/** Compares the usage counters of vfolders with what is really stored, and puts them right. */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'sync-quotas',
        payload: Type.Object({}),
        // A sync of all vfolders takes long; the second place is for single ones.
        concurrency: 2,
        cancellable: true,

        async run({ folder, checkpoint, signal, progress, save }) {
          const logFailure = createFailureLog(app)
          const state = { ...(isCheckpoint.Check(checkpoint) ? checkpoint : nothingYet) }
          for await (const vfolder of folder === null
            ? listReady(app, state.after)
            : [await app.vfolders.get(folder)]) {
            signal.throwIfAborted()
            const started = performance.now()
            const { counted, drift } = await syncVfolder(app, vfolder.id, signal).catch((err) => {
              if (folder !== null || signal.aborted) throw err
              // A vfolder that cannot be counted must not keep the others from it.
              logFailure(err, vfolder)
              state.failed++
              return { counted: nothing, drift: nothing }
            })
            state.after = vfolder.id
            state.folders++
            state.files += counted.files
            state.bytes += counted.bytes
            if (drift.files !== 0 || drift.bytes !== 0) state.drifted++
            state.driftFiles += Math.abs(drift.files)
            state.driftBytes += Math.abs(drift.bytes)
            progress(state)
            save(state)
            const rest = Math.min(longestRestMilliseconds, performance.now() - started)
            if (folder === null) await sleep(rest, undefined, { signal })
          }
          const { folders, failed, drifted, driftFiles, driftBytes } = state
          return { folders, failed, drifted, driftFiles, driftBytes }
        },
      }),
    )

    async function queueAll(): Promise<void> {
      const last = await app.jobs.latest('sync-quotas', null)
      if (last === undefined || hasEnded(last)) {
        await app.jobs.enqueue({ kind: 'sync-quotas', folder: null, payload: {} })
      }
    }

    app.addHook('onReady', async () => {
      app.schedule('sync-quotas', app.config.quotaSyncIntervalSeconds, queueAll)
    })
  },
  {
    name: 'sync-quotas',
    dependencies: ['job-queue', 'scheduler', 'vfolders', 'quotas', 'config', 'volumes', 'database'],
  },
)

/**
 * Logs why a vfolder could not be counted; only once for a volume that is not configured, however many vfolders it has.
 */
function createFailureLog({ log }: FastifyInstance) {
  const told = new Set<string>()
  return (err: unknown, { id, volume }: Vfolder) => {
    if (!(err instanceof Problem) || err.code !== 'volume_not_found') {
      log.error({ err, folder: id, volume }, 'a vfolder could not be counted')
    } else if (!told.has(volume)) {
      told.add(volume)
      log.warn({ volume }, 'there are vfolders on a volume that is not configured')
    }
  }
}

async function* listReady(app: FastifyInstance, after: string) {
  let position = after
  for (;;) {
    const vfolders = await app.vfolders.list({ limit: page, ...(position !== '' && { after: position }) })
    for (const vfolder of vfolders) if (vfolder.state === 'ready') yield vfolder
    const last = vfolders.at(-1)
    if (last === undefined) return
    position = last.id
  }
}

async function syncVfolder(
  app: FastifyInstance,
  id: string,
  signal: AbortSignal,
): Promise<{ counted: Amount; drift: Amount }> {
  const vfolder = await app.vfolders.ready(id).catch(() => undefined)
  if (vfolder === undefined) return { counted: nothing, drift: nothing }
  const { backend } = app.volumes.get(vfolder.volume)
  const { counted, drift, exact } = await putUsageRight(app, id, () => countUsage(backend, id, signal), signal)
  if (drift.files !== 0 || drift.bytes !== 0) {
    const fields = { folder: id, volume: vfolder.volume, drift_bytes: drift.bytes, drift_files: drift.files }
    app.log.info({ ...fields, usage_bytes: counted.bytes, usage_files: counted.files, exact }, 'usage had drifted')
  }
  return { counted, drift }
}
