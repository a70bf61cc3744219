import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import fp from 'fastify-plugin'
import { nothing } from '../backends/amount.ts'
import { defineJob, hasEnded } from '../plugins/work/job-queue/job.ts'
import { listReady, syncOrLeave, syncSettled } from './sync-vfolder.ts'

/** After each vfolder it rests for as long as that took, up to this, so that it takes at most half of a disk's time. */
const longestRestMilliseconds = 10_000
const placesForOne = 4

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
        // Nothing for a single vfolder.
        payload: Type.Object({ volume: Type.Optional(Type.String()) }),
        // A sync of a whole volume takes long, and each has one at most; single vfolders may wait in the further places.
        concurrency: app.volumes.all().length + placesForOne,
        cancellable: true,

        async run({ folder, payload, checkpoint, signal, progress, save }) {
          const state = { ...(isCheckpoint.Check(checkpoint) ? checkpoint : nothingYet) }
          for await (const vfolder of folder === null
            ? listReady(app, state.after, payload.volume)
            : [await app.vfolders.get(folder)]) {
            signal.throwIfAborted()
            const started = performance.now()
            const sync = folder === null ? syncOrLeave : syncSettled
            const { counted, drift } = await sync(app, vfolder.id, signal).catch((err) => {
              if (folder !== null || signal.aborted) throw err
              // A vfolder that cannot be counted must not keep the others from it.
              app.log.error({ err, folder: vfolder.id, volume: vfolder.volume }, 'a vfolder could not be counted')
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

    /** One job a volume, since each process counts what is on its own volumes. */
    async function queueAll(): Promise<void> {
      const others = await app.processes.others()
      const volumes = new Set([
        ...app.volumes.all().map(({ name }) => name),
        ...others.flatMap((process) => process.volumes),
      ])
      for (const volume of volumes) {
        const last = await app.jobs.latest('sync-quotas', { volume })
        if (last !== undefined && !hasEnded(last)) continue
        await app.jobs.enqueue({ kind: 'sync-quotas', folder: null, volume, payload: { volume } })
      }
      for (const volume of await app.vfolders.listVolumes()) {
        if (!volumes.has(volume)) app.log.warn({ volume }, 'there are vfolders on a volume that no process has')
      }
    }

    app.addHook('onReady', async () => {
      app.schedule('sync-quotas', app.config.quotaSyncIntervalSeconds, queueAll)
    })
  },
  {
    name: 'sync-quotas',
    dependencies: [
      'job-queue',
      'scheduler',
      'processes',
      'vfolders',
      'quotas',
      'config',
      'volumes',
      'database',
      'trash',
      'quota-warnings',
    ],
  },
)
