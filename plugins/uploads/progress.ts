import type { FastifyInstance } from 'fastify'
import type { UploadRow } from './rows.ts'

/** How often it is written down how far an upload has come; a process that dies loses what came since then. */
const intervalMilliseconds = 5000

/** Goes on from `offset`, and lives as long as after any other bytes. */
export async function setOffset(app: FastifyInstance, { id }: UploadRow, offset: number): Promise<number> {
  const expiresAt = Date.now() + app.config.uploadTtlSeconds * 1000
  await app.database.updateTable('uploads').set({ offset, expires_at: expiresAt }).where('id', '=', id).execute()
  return expiresAt
}

/**
 * What is durable of an append that is under way, and counts should that not come to its end.
 * @param below what is at this offset or behind it is not written down before the end
 */
export function createProgress(app: FastifyInstance, row: UploadRow, below: number) {
  let offset = row.offset
  let writtenAt = performance.now()
  let timer: NodeJS.Timeout | undefined
  let writing: Promise<unknown> = Promise.resolve()

  const write = () => {
    timer = undefined
    writtenAt = performance.now()
    if (offset >= below) return
    writing = writing
      .then(() => setOffset(app, row, offset))
      .catch((err) => app.log.warn({ err, upload_id: row.id }, 'progress of an upload could not be written down'))
  }

  return {
    offset: () => offset,

    reached(durable: number): void {
      offset = durable
      timer ??= setTimeout(write, writtenAt + intervalMilliseconds - performance.now())
    },

    /** After this nothing is written any more. */
    async end(): Promise<void> {
      clearTimeout(timer)
      await writing
    },
  }
}
