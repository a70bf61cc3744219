import type { FastifyInstance } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import { smallBytes } from '../write.ts'
import type { Append } from './append.ts'
import { type Given, type Named, type NewUpload, offsetMismatch, type UploadRow } from './rows.ts'
import { storeSmallUpload } from './small.ts'

/** An upload that has had its name before it was begun. */
export type Announced = Omit<NewUpload, 'kind' | 'parts'> & { named: Given; size: number }

interface FirstUse {
  app: FastifyInstance
  find(id: string): Promise<UploadRow | undefined>
  create(upload: NewUpload): Promise<unknown>
  settled(named: Named): Promise<UploadRow>
  append(named: Named, append: Append & { size: undefined; isAnnounced: true }): Promise<UploadRow>
}

/**
 * Uploads whose clients are given a name for them by somebody else, and begin them by using it. Several processes may
 * be asked to at once.
 */
export function createFirstUse({ app, find, create, settled, append }: FirstUse) {
  async function* none(): AsyncGenerator<Buffer> {}

  async function storeSmall(upload: Announced, chunks: AsyncIterable<Buffer>, signal: AbortSignal): Promise<UploadRow> {
    return (await storeSmallUpload(app, { ...upload, chunks, signal })).row
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
      if ((await find(upload.named.id)) !== undefined) return settled(upload.named)
      return upload.size === 0 ? storeSmall(upload, none(), signal) : undefined
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
        if (bytes.bytes === size && size <= smallBytes) return storeSmall(upload, bytes.read(signal), signal)
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
