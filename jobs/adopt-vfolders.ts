import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import fp from 'fastify-plugin'
import { Adoption, chooseScopes } from '../plugins/vfolders/adoptions.ts'
import { defineJob } from '../plugins/work/job-queue/job.ts'
import { listReady, syncOrLeave } from './sync-vfolder.ts'

/** How many orphans are asked for at once. */
const page = 500
/** Of scopes that nobody named, so many are told. */
const toldScopes = 100

const Checkpoint = Type.Object({
  /** The orphan that was looked at last, by its name on the storage; null: all were. */
  after: Type.Union([Type.String(), Type.Null()]),
  adopted: Type.Integer(),
  /** Of scopes that nobody named. */
  left: Type.Integer(),
  scopes: Type.Array(Type.String()),
  /** Could not be looked at, or not be counted. */
  failed: Type.Integer(),
  /** The vfolder that was counted last. */
  counted: Type.String(),
  files: Type.Integer(),
  bytes: Type.Integer(),
})
const isCheckpoint = TypeCompiler.Compile(Checkpoint)
type Checkpoint = Static<typeof Checkpoint>
const nothingYet: Checkpoint = {
  after: '',
  adopted: 0,
  left: 0,
  scopes: [],
  failed: 0,
  counted: '',
  files: 0,
  bytes: 0,
}

/**
 * Makes vfolders of all that lies on a volume and that no row knows, and then counts them: so all are in use long before
 * the last is counted. Nothing on the storage is changed.
 */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'adopt-vfolders',
        payload: Type.Composite([Type.Object({ volume: Type.String() }), Adoption]),
        concurrency: app.volumes.all().length,
        cancellable: true,

        async run({ payload, checkpoint, signal, log, progress, save }) {
          const volume = app.volumes.get(payload.volume)
          const scopeOf = chooseScopes(volume, payload)
          const state = structuredClone(isCheckpoint.Check(checkpoint) ? checkpoint : nothingYet)
          while (state.after !== null) {
            const after = state.after === '' ? {} : { after: state.after }
            const { orphans, next = null } = await app.orphans.list(volume, { limit: page, signal, ...after })
            for (const { id, scope } of orphans) {
              const quotaScope = scopeOf({ id, ...(scope !== undefined && { scope }) })
              if (quotaScope === undefined) {
                state.left++
                if (scope !== undefined && state.scopes.length < toldScopes && !state.scopes.includes(scope)) {
                  state.scopes.push(scope)
                }
                continue
              }
              const isNew = await app.orphans.register({ volume, id, quotaScope }, signal).catch((err) => {
                if (signal.aborted) throw err
                log.error({ err, folder: id, volume: volume.name }, 'a vfolder could not be adopted')
                state.failed++
                return false
              })
              if (isNew) state.adopted++
            }
            state.after = next
            save(state)
          }
          log.info({ volume: volume.name, adopted: state.adopted, left: state.left }, 'vfolders adopted')
          for await (const { id, usage } of listReady(app, state.counted, volume.name)) {
            if (usage.syncedAt === null) {
              const synced = await syncOrLeave(app, id, signal).catch((err) => {
                if (signal.aborted) throw err
                log.error({ err, folder: id, volume: volume.name }, 'a vfolder could not be counted')
                state.failed++
              })
              state.files += synced?.counted.files ?? 0
              state.bytes += synced?.counted.bytes ?? 0
            }
            state.counted = id
            progress(state)
            save(state)
          }
          const { adopted, left, scopes, failed, files, bytes } = state
          return { adopted, left, scopes, failed, files, bytes }
        },
      }),
    )
  },
  {
    name: 'adopt-vfolders',
    dependencies: ['job-queue', 'volumes', 'orphans', 'vfolders', 'quotas', 'database', 'trash', 'quota-warnings'],
  },
)
