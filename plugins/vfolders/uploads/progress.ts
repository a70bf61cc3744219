import type { FastifyInstance } from 'fastify'
import type { UploadRow } from './rows.ts'

/** How often it is written down what of an upload is durable. */
const intervalMilliseconds = 5000

/**
 * Writes down how far an upload has come, unless another process has it by now: this one may have stood still, and was
 * taken for dead.
 * @returns whether this process has it still
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
