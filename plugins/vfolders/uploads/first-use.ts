import type { FastifyInstance } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import { smallBytes } from '../write.ts'
import type { Append } from './append.ts'
import type { createLocks } from './locks.ts'
import { type GivenBefore, type Named, type NewUpload, offsetMismatch, type UploadRow, uploadTaken } from './rows.ts'
import { claimSmallUpload, storeClaimed, withdrawClaim } from './small.ts'

/** An upload that has had its name before it was begun. */
export type Announced = Omit<NewUpload, 'kind' | 'parts'> & { named: GivenBefore; size: number }

interface FirstUse {
  app: FastifyInstance
  locks: Pick<ReturnType<typeof createLocks>, 'hold'>
  find(id: string): Promise<UploadRow | undefined>
  create(upload: NewUpload): Promise<unknown>
  settled(named: Named): Promise<UploadRow>
  append(named: Named, append: Append & { size: undefined; isAnnounced: true }): Promise<UploadRow>
}

/**
 * Uploads whose clients are given a name for them by somebody else, and begin them by using it. Several processes may
 * be asked to at once, and whoever has the name may use it again: it becomes a file once.
 */
export function createFirstUse({ app, locks, find, create, settled, append }: FirstUse) {
  async function* none(): AsyncGenerator<Buffer> {}

  /** Stores one whose bytes all come at once. Undefined when another request has begun it by now. */
  async function storeSmall(
    upload: Announced,
    read: Append['read'],
    signal: AbortSignal,
  ): Promise<UploadRow | undefined> {
    const { named } = upload
    const lock = await locks.hold(named.id, () => claimSmallUpload(app, named, upload))
    if (lock === undefined) return undefined
    try {
      return await storeClaimed(app, named, { ...upload, chunks: read(lock.wanted), signal })
    } catch (error) {
      // Whoever wants it goes on with it.
      if (lock.wanted.aborted) throw uploadTaken()
      await withdrawClaim(app, named.id)
      throw error
    } finally {
      await lock.release()
    }
  }

  /** The row decides which of two requests begins the upload; the other one goes on with it. */
  async function begin(upload: Announced): Promise<void> {
    await create({ ...upload, kind: 'whole' }).catch((error) => {
      if (!(error instanceof Problem) || error.code !== 'upload_interrupted') throw error
    })
  }

  return {
    /** As `settled`; undefined when it is not begun. One of no bytes is begun, and is a file, once somebody asks. */
    async settledAnnounced(upload: Announced, signal: AbortSignal): Promise<UploadRow | undefined> {
      const { named, size } = upload
      if ((await find(named.id)) !== undefined) return settled(named)
      return size === 0 ? ((await storeSmall(upload, none, signal)) ?? settled(named)) : undefined
    },

    /**
     * As `append`. A client whose last answer was lost finds out by a wrong offset that the file is there.
     * @throws {Problem} `invalid_operation` when it was begun for another path
     */
    async appendAnnounced(upload: Announced, bytes: Append, signal: AbortSignal): Promise<UploadRow> {
      const { named, size, permission } = upload
      const row = await find(named.id)
      if (row === undefined) {
        if (bytes.offset !== 0) throw offsetMismatch(0)
        const isSmall = bytes.bytes === size && size <= smallBytes && bytes.checksum === undefined
        const stored = isSmall ? await storeSmall(upload, (end) => bytes.read(end), signal) : undefined
        if (stored !== undefined) return stored
        await begin(upload)
      } else if (row.path !== permission.path) {
        throw new Problem('invalid_operation', `The upload was begun for ${row.path}, not for ${permission.path}.`)
      } else if (row.state === 'finished' && bytes.offset === row.offset && bytes.bytes === 0) {
        return settled(named)
      }
      return append(named, { ...bytes, size: undefined, isAnnounced: true })
    },
  }
}
