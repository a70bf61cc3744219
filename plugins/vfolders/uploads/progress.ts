import type { FastifyInstance } from 'fastify'
import { changeHeld, type UploadRow } from './rows.ts'

/** How often it is written down at most that an upload moves, and how far it is durable. */
const longestIntervalMilliseconds = 5000

/** Writes down how far an upload has come, or until when it lives. @throws {Problem} `upload_interrupted` */
export async function writeDown(
  app: FastifyInstance,
  { id }: UploadRow,
  change: { offset?: number; expires_at: number },
): Promise<void> {
  await changeHeld(app.database, id, app.processes.id, change)
}

/** Until when an upload lives after its last bytes, in milliseconds since the epoch. */
export function expiryOf(app: FastifyInstance): number {
  return app.database.now() + app.config.uploadTtlSeconds * 1000
}

/**
 * Follows a running append. Its durable bytes count even if it does not come to its end, and the upload lives on also
 * when none of those that come count yet.
 * @param below no offset from here on is written down before the end
 */
export function createProgress(app: FastifyInstance, row: UploadRow, below: number) {
  // The upload must not expire in between.
  const interval = Math.min(longestIntervalMilliseconds, (app.config.uploadTtlSeconds * 1000) / 3)
  let offset = row.offset
  let writtenAt = performance.now()
  let timer: NodeJS.Timeout | undefined
  let writing: Promise<unknown> = Promise.resolve()

  const write = () => {
    timer = undefined
    writtenAt = performance.now()
    writing = writing
      .then(() => writeDown(app, row, { ...(offset < below && { offset }), expires_at: expiryOf(app) }))
      .catch((err) => app.log.warn({ err, upload_id: row.id }, 'progress of an upload could not be written down'))
  }

  function moved(): void {
    timer ??= setTimeout(write, writtenAt + interval - performance.now())
  }

  return {
    offset: () => offset,

    /** Bytes have come. */
    moved,

    /** Bytes up to here are durable. */
    reached(durable: number): void {
      offset = durable
      moved()
    },

    /** After this nothing is written any more. */
    async end(): Promise<void> {
      clearTimeout(timer)
      await writing
    },
  }
}
