import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { sum } from '../backends/amount.ts'
import type { Amount } from '../backends/backend.ts'
import { type EntryPath, parsePath } from '../backends/path.ts'
import { DeletionPayload } from '../plugins/vfolders/background.ts'
import { type Attempt, defineJob } from '../plugins/work/job-queue/job.ts'

const reportedPaths = 100

/** Far less than a lease. How far it is, is durable as often. */
const confirmMilliseconds = 200

const Checkpoint = Type.Object({
  /** The index of the path to go on with. */
  next: Type.Integer(),
  files: Type.Integer(),
  bytes: Type.Integer(),
  deletedCount: Type.Integer(),
  missing: Type.Array(Type.String()),
  missingCount: Type.Integer(),
})
const isCheckpoint = TypeCompiler.Compile(Checkpoint)
const nothingYet = { next: 0, files: 0, bytes: 0, deletedCount: 0, missing: [], missingCount: 0 }

type DeletionAttempt = Attempt<typeof DeletionPayload.static>

/** Deletes entries one after the other, as a request would. */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'delete-entries',
        payload: DeletionPayload,
        concurrency: 4,
        cancellable: true,

        async run(attempt) {
          try {
            return await deleteAll(app, attempt)
          } finally {
            // What an attempt had deleted whose process died, nobody has counted.
            if (attempt.number > 1) await app.vfolders.recount(attempt.folder ?? '')
          }
        },
      }),
    )
  },
  { name: 'delete-entries', dependencies: ['job-queue', 'vfolders', 'trash', 'background'] },
)

async function deleteAll(app: FastifyInstance, attempt: DeletionAttempt): Promise<Record<string, unknown>> {
  const { payload, checkpoint, signal, confirm, progress, save } = attempt
  const state = isCheckpoint.Check(checkpoint) ? structuredClone(checkpoint) : structuredClone(nothingYet)
  // Of an entry that was on its way into the trash the rest follows, before what is left of it counts as another one.
  if (attempt.number > 1 && !payload.permanent) await app.trash.settle(signal)
  let confirmedAt = Number.NEGATIVE_INFINITY
  for (const path of payload.paths.slice(state.next).map(parsePath)) {
    // What has that name once another process has the job may be another entry. A process that stood still for long
    // enough to lose it is late here, too.
    if (performance.now() - confirmedAt > confirmMilliseconds) {
      await confirm()
      await app.vfolders.readySince(attempt.folder ?? '', payload.createdAt)
      confirmedAt = performance.now()
    }
    const before = { files: state.files, bytes: state.bytes }
    const onProgress = (done: Amount) => {
      Object.assign(state, sum(before, done))
      progress(state)
    }
    const { missing } = await deleteOne(app, attempt, path, onProgress)
    state.next++
    if (missing.length === 0) state.deletedCount++
    else if (++state.missingCount <= reportedPaths) state.missing.push(path)
    save(state)
  }
  const { next: _, ...result } = state
  return result
}

async function deleteOne(
  app: FastifyInstance,
  { folder, payload, signal }: DeletionAttempt,
  path: EntryPath,
  onProgress: (done: Amount) => void,
): Promise<{ missing: string[] }> {
  const id = folder ?? ''
  const options = { recursive: payload.recursive, signal, onProgress }
  if (!payload.permanent) return app.trash.put(id, [path], options)
  return (await app.vfolders.files(id)).remove([path], options)
}
