import type { FastifyInstance } from 'fastify'
import type { UploadRow } from './rows.ts'

/** How often the durable offset of an upload is written down. */
const intervalMilliseconds = 5000

/**
 * Writes down how far an upload has come, unless another process has it by now: this one may have stood still and been
 * taken for dead.
 * @returns whether this process still has it
 */
export async function setOffset(
  app: FastifyInstance,
  { id }: UploadRow,
  change: { offset: number; expires_at?: number },
): Promise<boolean> {
  const { numUpdatedRows } = await app.database
    .updateTable('uploads')
    .set(change)
    .where('id', '=', id)
    .where('process', '=', app.processes.id)
    .executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

/** Until when an upload lives after its last bytes, in milliseconds since the epoch. */
export function expiryOf(app: FastifyInstance): number {
  return Date.now() + app.config.uploadTtlSeconds * 1000
}

/**
 * Follows the durable bytes of a running append. They count even if it does not come to its end.
 * @param below no offset from here on is written down before the end
 */
export function createProgress(app: FastifyInstance, row: UploadRow, below: number) {
  let offset = row.offset
  let writtenAt = performance.now()
  let timer: NodeJS.Timeout | undefined
  let writing: Promise<unknown> = Promise.resolve()

  const write = () => {
    timer = undefined
    writtenAt = performance.now()
    writing = writing
      .then(() => offset < below && setOffset(app, row, { offset, expires_at: expiryOf(app) }))
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
