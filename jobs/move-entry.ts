import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Amount, Entry } from '../backends/backend.ts'
import { hasCapability } from '../backends/capabilities.ts'
import { NotFound } from '../backends/errors.ts'
import { parsePath } from '../backends/path.ts'
import { MovePayload } from '../plugins/vfolders/background.ts'
import { findEntry } from '../plugins/vfolders/find-entry.ts'
import { countEntries } from '../plugins/vfolders/usage.ts'
import { type Attempt, defineJob } from '../plugins/work/job-queue/job.ts'

/** What is to move; once it is saved the move may have begun. */
const isBegun = TypeCompiler.Compile(Type.Object({ begun: Type.Object({ type: Type.String() }) }))

type MoveAttempt = Attempt<typeof MovePayload.static>

/** Moves an entry, as a request would. */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'move-entry',
        payload: MovePayload,
        concurrency: 2,
        // Until it begins: half of a directory at each name is of no use to anybody.
        cancellable: true,

        async run(attempt) {
          const { folder, payload } = attempt
          const ids = new Set([folder ?? '', payload.toFolder])
          try {
            const { type } = await move(app, attempt)
            return { from: payload.from, to: payload.to, toFolder: payload.toFolder, type }
          } finally {
            // What an attempt had moved whose process died, nobody has counted.
            if (attempt.number > 1) for (const id of ids) await app.vfolders.recount(id)
          }
        },
      }),
    )
  },
  { name: 'move-entry', dependencies: ['job-queue', 'vfolders', 'volumes', 'quotas', 'database', 'background'] },
)

async function move(app: FastifyInstance, attempt: MoveAttempt): Promise<Entry> {
  const { payload, checkpoint, signal, commit, progress } = attempt
  const { id } = await app.vfolders.readySince(attempt.folder ?? '', payload.createdAt)
  await app.vfolders.readySince(payload.toFolder, payload.toCreatedAt)
  const files = await app.vfolders.files(id)
  const { backend } = files.volume
  const [from, to] = [parsePath(payload.from), parsePath(payload.to)]
  const target = payload.toFolder === id ? undefined : await app.vfolders.open(payload.toFolder)

  const source = await findEntry(backend, id, from, signal)
  if (source === undefined && isBegun.Check(checkpoint)) {
    const moved = await findEntry(backend, payload.toFolder, to, signal)
    if (moved?.type === checkpoint.begun.type) return moved
  }
  if (source === undefined) throw new NotFound(`${from} does not exist`)
  // Where a directory moves in one step there is nothing to tell on the way.
  const isCounted = source.type === 'directory' && !hasCapability(backend, 'copyTree')
  const total = isCounted ? await countEntries(backend, id, { path: from, signal }) : undefined
  if (total !== undefined) progress({ files: 0, bytes: 0 }, total)
  await commit({ begun: { type: source.type } })
  const onProgress = (done: Amount) => progress(done, total)
  const entry = await files.move(from, to, { overwrite: payload.overwrite, target, signal, onProgress })
  if (total !== undefined) progress(total, total)
  return entry
}
