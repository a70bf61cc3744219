import { isDeepStrictEqual } from 'node:util'
import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { EntryPath } from '../../backends/path.ts'
import type { Database } from '../storage/database/tables.ts'
import { transact } from '../storage/database/transact.ts'
import type { NewJob } from '../work/job-queue/index.ts'
import type { Job } from '../work/job-queue/job.ts'
import { requireTrash } from './trash/places.ts'

declare module 'fastify' {
  interface FastifyInstance {
    background: ReturnType<typeof createBackground>
  }
}

/** When a vfolder was created tells it from a later one of its ID. */
const CreatedAt = Type.String()

/** What a job that deletes entries is given; it works on the vfolder that they are in. */
export const DeletionPayload = Type.Object({
  paths: Type.Array(Type.String()),
  recursive: Type.Boolean(),
  permanent: Type.Boolean(),
  createdAt: CreatedAt,
})

/** What a job that moves an entry is given; it works on the vfolder that `from` is in. */
export const MovePayload = Type.Object({
  from: Type.String(),
  to: Type.String(),
  toFolder: Type.String(),
  overwrite: Type.Boolean(),
  createdAt: CreatedAt,
  toCreatedAt: CreatedAt,
})

interface Deletion {
  paths: EntryPath[]
  recursive: boolean
  permanent: boolean
}

interface Move {
  from: EntryPath
  to: EntryPath
  toFolder: string
  overwrite: boolean
  signal: AbortSignal
}

function createBackground(app: FastifyInstance) {
  const db = app.database

  /** A job that is there already for the same call. */
  async function findJob(
    { kind, folder, payload }: NewJob & { folder: string },
    isSame: (job: Job) => boolean,
    on: Database = db,
  ): Promise<Job | undefined> {
    const unended = await app.jobs.listUnended(kind, folder, on)
    return unended.find((one) => isSame(one.job) && isDeepStrictEqual(one.payload, payload))?.job
  }

  async function enqueueOnce(job: NewJob & { folder: string }, isSame: (job: Job) => boolean): Promise<Job> {
    return transact(db, async (trx) => (await findJob(job, isSame, trx)) ?? app.jobs.enqueue(job, trx))
  }

  return {
    /**
     * Queues a job that deletes entries. The same call gets the same job until that begins: what it has passed by then
     * may be there again.
     * @throws {Problem} `vfolder_not_found`, `vfolder_cloning` or, where the trash is on, `capability_missing`
     */
    async delete(folder: string, { paths, recursive, permanent }: Deletion): Promise<Job> {
      const { volume, createdAt } = await app.vfolders.readyNow(folder)
      const isPermanent = permanent || !app.trash.isOn
      if (!isPermanent) requireTrash(app.volumes.get(volume))
      const payload = { paths: [...new Set(paths)], recursive, permanent: isPermanent, createdAt }
      const isUnbegun = ({ attempts }: Job) => attempts === 0
      return enqueueOnce({ kind: 'delete-entries', folder, volume, payload }, isUnbegun)
    },

    /** The same of a vfolder that no volume has, for a caller who waits for the end of a job. */
    async deleteNothing(folder: string): Promise<Job> {
      const payload = { paths: [], recursive: false, permanent: true, createdAt: '' }
      return app.jobs.enqueue({ kind: 'delete-entries', folder, payload })
    },

    /**
     * Queues a job that moves an entry. The same call gets the same job until that has ended.
     * @throws what a move would be refused with by now
     */
    async move(folder: string, { from, to, toFolder, overwrite, signal }: Move): Promise<Job> {
      const { volume, createdAt } = await app.vfolders.readyNow(folder)
      const { createdAt: toCreatedAt } = await app.vfolders.readyNow(toFolder)
      const payload = { from, to, toFolder, overwrite, createdAt, toCreatedAt }
      const job = { kind: 'move-entry', folder, volume, payload }
      // By now it may have moved a part.
      const earlier = await findJob(job, () => true)
      if (earlier !== undefined) return earlier
      const target = toFolder === folder ? undefined : await app.vfolders.open(toFolder)
      await (await app.vfolders.files(folder)).checkMove(from, to, { overwrite, target, signal })
      return enqueueOnce(job, () => true)
    },
  }
}

/** Deletions and moves of large trees by jobs, for whoever asks for that. */
export default fp(
  async (app) => {
    app.decorate('background', createBackground(app))
  },
  { name: 'background', dependencies: ['database', 'job-queue', 'volumes', 'vfolders', 'trash'] },
)
