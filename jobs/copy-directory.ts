import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Amount, Entry } from '../backends/backend.ts'
import { AlreadyExists, IsADirectory, NotADirectory, NotFound } from '../backends/errors.ts'
import { type EntryPath, parsePath } from '../backends/path.ts'
import { currentRequestId, newRequestId } from '../lib/context.ts'
import { requireCapability, type Volume } from '../plugins/storage/volumes.ts'
import { CopyPayload } from '../plugins/vfolders/copies.ts'
import { findEntry } from '../plugins/vfolders/find-entry.ts'
import { forget } from '../plugins/vfolders/rows.ts'
import { filesStored } from '../plugins/vfolders/told.ts'
import { countEntries, countFiles } from '../plugins/vfolders/usage.ts'
import { type Attempt, defineJob } from '../plugins/work/job-queue/job.ts'
import { appear } from './appear.ts'
import { type CopyEntriesOptions, copyEntries, type Tree } from './copy-entries.ts'

/** The storage does the work, so it is its time to answer that is made up for. */
const filesAtOnce = 32

/** What the copy has, once all of it is staged. */
const Staged = Type.Object({
  files: Type.Integer(),
  bytes: Type.Integer(),
  changed: Type.Array(Type.String()),
  changedCount: Type.Integer(),
})
const isStaged = TypeCompiler.Compile(Type.Object({ staged: Staged }))

function directoryCopied(folder: string, { source, from, to }: typeof CopyPayload.static, { files, bytes }: Amount) {
  const copy = { path: to, type: 'directory', size: bytes, files, replaced: false } as const
  const requestId = currentRequestId() ?? newRequestId()
  return filesStored(folder, [{ ...copy, source: { folder: source, path: from }, requestId }])
}

type CopyAttempt = Attempt<typeof CopyPayload.static>

/** Copies a directory into a vfolder of its own, which nobody else sees, and moves it from there. */
export default fp(
  async (app) => {
    app.jobs.define(
      defineJob({
        kind: 'copy-directory',
        payload: CopyPayload,
        concurrency: 2,
        cancellable: true,

        audited: ({ source, from, to }, { bytes }) => ({
          action: 'entry.copy',
          path: to,
          subject: `${source}/${from}`,
          bytes: Number(bytes),
        }),

        async run(attempt) {
          const { payload, checkpoint, signal, commit } = attempt
          const { id, volume: name } = await app.vfolders.readySince(attempt.folder ?? '', payload.createdAt)
          const volume = app.volumes.get(name)
          const earlier = isStaged.Check(checkpoint) ? checkpoint.staged : undefined
          const staged = earlier ?? (await stage(app, attempt, volume))
          if (earlier === undefined) await commit({ staged })
          const to = parsePath(payload.to)
          await appear(
            volume.backend,
            { staging: attempt.id, folder: id, path: to, isLater: earlier !== undefined },
            signal,
          )
          await volume.backend.removeFolder(attempt.id, { signal })
          const { source, from } = payload
          return { source, from, to, ...staged }
        },

        async ended({ id, folder, payload, result }, end, db) {
          if (folder === null) return
          if (end === 'succeeded') {
            const copied = { files: Number(result?.files), bytes: Number(result?.bytes) }
            await app.quotas.endOfJob(db, folder, id, copied)
            await forget(db, id)
            await app.events.add(db, ...directoryCopied(folder, payload, copied))
          } else {
            await app.quotas.endOfJob(db, folder, id)
            await app.vfolders.startDeletion(id, db)
          }
        },

        prepareRetry: (job, db) => app.copies.stageAgain(job, db),
      }),
    )
  },
  {
    name: 'copy-directory',
    dependencies: ['job-queue', 'vfolders', 'copies', 'volumes', 'quotas', 'database', 'events'],
  },
)

async function stage(app: FastifyInstance, attempt: CopyAttempt, volume: Volume): Promise<typeof Staged.static> {
  const { id, payload, signal, checkpoint, progress, save } = attempt
  const { backend } = volume
  const source: Tree & { path: EntryPath } = { volume, folder: payload.source, path: parsePath(payload.from) }
  const to = parsePath(payload.to)
  await app.vfolders.readyNow(source.folder)
  await backend.createFolder(id, { signal })
  const total = await countEntries(backend, source.folder, { path: source.path, signal })
  await app.quotas.setAsideForJob(attempt.folder ?? '', id, total)
  progress({ files: 0, bytes: 0 }, total)
  const { changed, changedCount } = await copyEntries(
    source,
    // As long a path as it will have: where it is too long, that is found out here.
    { volume, folder: id, path: to },
    {
      signal,
      checkpoint,
      onCheckpoint: save,
      onProgress: (done) => progress(done, total),
      atOnce: filesAtOnce,
      copy: copyWithin(volume, source.folder, id),
    },
  )
  // A source that was removed meanwhile may have been gone in part when it was read.
  await app.vfolders.readyNow(source.folder)
  const { type } = await backend.stat(source.folder, source.path, { signal })
  if (type !== 'directory') throw new NotADirectory(`${source.path} is no directory any more`)
  const copied = await countFiles(backend, id, signal)
  await app.quotas.setAsideForJob(attempt.folder ?? '', id, copied)
  progress(copied, copied)
  if (await findEntry(backend, attempt.folder ?? '', to, signal)) throw new AlreadyExists(`${to} exists already`)
  if (changedCount > 0) attempt.log.warn({ changed, changed_count: changedCount }, 'the source changed meanwhile')
  return { ...copied, changed, changedCount }
}

/** Copies single entries without passing their bytes through the service. */
function copyWithin(volume: Volume, folder: string, toFolder: string): CopyEntriesOptions['copy'] {
  const backend = requireCapability(volume, 'copy')
  return async (_entry, from, to, { signal }): Promise<Entry | undefined> => {
    try {
      return (await backend.copy(folder, from, to, { signal, toFolder })).entry
    } catch (error) {
      // It was removed, or has become a directory, since it was listed.
      if (error instanceof NotFound || error instanceof IsADirectory) return undefined
      throw error
    }
  }
}
