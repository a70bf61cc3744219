import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { sum } from '../backends/amount.ts'
import type { Amount } from '../backends/backend.ts'
import { type EntryPath, parsePath } from '../backends/path.ts'
import { Problem } from '../lib/problems.ts'
import { DeletionPayload } from '../plugins/vfolders/background.ts'
import { type Attempt, defineJob } from '../plugins/work/job-queue/job.ts'

const reportedPaths = 100

/** How long paths are deleted until that is written down; far less than a lease. */
const momentMilliseconds = 200

const trashedAtOnce = 20

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

/** What was done of some paths; a problem has it, too. */
const Outcome = Type.Object({ deleted: Type.Array(Type.String()), missing: Type.Array(Type.String()) })
type Outcome = typeof Outcome.static
const isOutcome = TypeCompiler.Compile(Outcome)

type DeletionAttempt = Attempt<typeof DeletionPayload.static>

/** Deletes entries in their order, as a request would. */
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
  const state = structuredClone(isCheckpoint.Check(checkpoint) ? checkpoint : nothingYet)
  // Of an entry that was on its way into the trash the rest follows, before what is left of it counts as another one.
  if (attempt.number > 1 && !payload.permanent) await app.trash.settle(signal)
  while (state.next < payload.paths.length) {
    // What has the name of a path once another process has the job may be another entry.
    await confirm()
    await app.vfolders.readySince(attempt.folder ?? '', payload.createdAt)
    const before = { files: state.files, bytes: state.bytes }
    const onProgress = (done: Amount) => {
      Object.assign(state, sum(before, done))
      progress(state)
    }
    try {
      advance(state, payload.paths, await deleteSome(app, attempt, state.next, onProgress))
    } catch (error) {
      if (error instanceof Problem && isOutcome.Check(error.members)) advance(state, payload.paths, error.members)
      throw error
    } finally {
      save(state)
    }
  }
  const { next: _, ...result } = state
  return result
}

/** Deletes for a moment, or some that go into the trash, which are not lost in any case. */
async function deleteSome(
  app: FastifyInstance,
  { folder, payload, signal }: DeletionAttempt,
  next: number,
  onProgress: (done: Amount) => void,
): Promise<Outcome> {
  const id = folder ?? ''
  const options = { recursive: payload.recursive, signal, onProgress }
  if (!payload.permanent)
    return app.trash.put(id, payload.paths.slice(next, next + trashedAtOnce).map(parsePath), options)
  return (await app.vfolders.files(id)).remove(forAMoment(payload.paths, next), options)
}

/** A process that stood still for long enough to lose its job takes no further path. */
function* forAMoment(paths: string[], next: number): Generator<EntryPath> {
  const until = performance.now() + momentMilliseconds
  for (let index = next; index < paths.length; index++) {
    yield parsePath(paths[index] ?? '')
    if (performance.now() > until) return
  }
}

/** Counts the paths that are done, up to the first that is not. */
function advance(state: typeof Checkpoint.static, paths: string[], { deleted, missing }: Outcome): void {
  const gone = new Set(deleted)
  const absent = new Set(missing)
  for (const path of paths.slice(state.next)) {
    if (gone.has(path)) state.deletedCount++
    else if (!absent.has(path)) return
    else if (++state.missingCount <= reportedPaths) state.missing.push(path)
    state.next++
  }
}
