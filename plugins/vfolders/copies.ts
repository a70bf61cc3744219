import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Entry } from '../../backends/backend.ts'
import { hasCapability } from '../../backends/capabilities.ts'
import { AlreadyExists } from '../../backends/errors.ts'
import { type EntryPath, parsePath } from '../../backends/path.ts'
import { Problem } from '../../lib/problems.ts'
import type { Database } from '../storage/database/tables.ts'
import { transact } from '../storage/database/transact.ts'
import type { Volume } from '../storage/volumes.ts'
import type { EndedJob, Job } from '../work/job-queue/job.ts'
import * as rows from './rows.ts'

declare module 'fastify' {
  interface FastifyInstance {
    copies: ReturnType<typeof createCopies>
  }
}

/** What a job that copies a directory is given; it works on the vfolder that `to` is in. */
export const CopyPayload = Type.Object({
  source: Type.String(),
  from: Type.String(),
  to: Type.String(),
  /** When the vfolder of `to` was created, which tells it from a later one of that ID. */
  createdAt: Type.String(),
})
const isPayload = TypeCompiler.Compile(CopyPayload)

/** As the vfolder of a job is in which it stages a copy. */
const unlimited = { quota: { bytes: null, files: null }, quotaScope: null, metadata: {} }

interface Place {
  folder: string
  path: EntryPath
}

function createCopies(app: FastifyInstance) {
  const db = app.database

  /** The job that makes what is to be at a place. @throws {AlreadyExists} when it copies something else */
  async function findJob(from: Place, to: Place, on: Database = db): Promise<Job | undefined> {
    for (const { job, payload } of await app.jobs.listUnended('copy-directory', to.folder, on)) {
      if (!isPayload.Check(payload) || payload.to !== to.path) continue
      if (payload.source === from.folder && payload.from === from.path) return job
      throw new AlreadyExists(`${to.path} is being made by another copy`)
    }
    return undefined
  }

  /**
   * Queues a job. What it copies is staged in a vfolder of the job's own, which has the job's ID and counts as being
   * deleted from the beginning: nobody is shown it, and it does not outlive its job.
   */
  async function start(from: Place, to: Place, volume: Volume): Promise<Job> {
    const { createdAt, quotaScope } = await app.vfolders.get(to.folder)
    const payload = { source: from.folder, from: from.path, to: to.path, createdAt }
    return transact(db, async (trx) => {
      const running = await findJob(from, to, trx)
      if (running !== undefined) return running
      const job = await app.jobs.enqueue(
        { kind: 'copy-directory', folder: to.folder, volume: volume.name, payload },
        trx,
      )
      await rows.create(trx, { id: job.id, volume, ...unlimited, quotaScope }, db.now(), 'deleting')
      return job
    })
  }

  /** Makes the place once more in which a copy is staged, whose job is to begin anew. */
  async function stageAgain(
    { id, folder, payload }: EndedJob<typeof CopyPayload.static>,
    trx: Database,
  ): Promise<void> {
    const target = await rows.find(trx, folder ?? '')
    if (target?.state !== 'ready' || target.createdAt !== payload.createdAt) throw rows.vfolderNotFound(folder ?? '')
    const from = { folder: payload.source, path: parsePath(payload.from) }
    const same = await findJob(from, { folder: target.id, path: parsePath(payload.to) }, trx)
    if (same !== undefined) throw new Problem('job_not_retryable', `The job ${same.id} makes that copy by now.`)
    const staging = { id, volume: app.volumes.get(target.volume), ...unlimited, quotaScope: target.quotaScope }
    if (await rows.create(trx, staging, db.now(), 'deleting')) return
    throw new Problem('job_not_retryable', 'What it had copied is still being removed; retry it when that has ended.')
  }

  return {
    stageAgain,

    /**
     * Copies a file, or a directory with all that is in it. Where the storage has no step by which a directory appears,
     * a job does it; the same call gets the same job for as long as that has not ended.
     */
    async copy(
      from: Place,
      to: Place,
      { overwrite, signal }: { overwrite: boolean; signal: AbortSignal },
    ): Promise<{ entry: Entry } | { job: Job }> {
      const files = await app.vfolders.files(from.folder)
      const { volume } = files
      const target = to.folder === from.folder ? undefined : await app.vfolders.open(to.folder)
      if (!hasCapability(volume.backend, 'copyTree')) {
        const job = await findJob(from, to)
        if (job !== undefined) return { job }
      }
      const entry = await files.copy(from.path, to.path, { overwrite, signal, target })
      return entry === undefined ? { job: await start(from, to, volume) } : { entry }
    },
  }
}

/** Copies of entries, within a request or by a job. */
export default fp(
  async (app) => {
    app.decorate('copies', createCopies(app))
  },
  { name: 'copies', dependencies: ['database', 'job-queue', 'volumes', 'vfolders'] },
)
