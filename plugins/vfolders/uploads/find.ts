import type { FastifyInstance } from 'fastify'
import type { createLocks } from './locks.ts'
import { expiryOf } from './progress.ts'
import { readUpload, type UploadRow } from './rows.ts'

/** Gives an upload with the time until which it really lives: its row may be behind what a process does with it. */
export function createFind(app: FastifyInstance, locks: ReturnType<typeof createLocks>) {
  return async function find(id: string): Promise<UploadRow | undefined> {
    const row = await readUpload(app.database, id)
    if (row === undefined || row.expires_at > app.database.now()) return row
    // Parts end with their final upload.
    const final = row.final === null ? undefined : await find(row.final)
    if (final !== undefined) return { ...row, expires_at: Math.max(row.expires_at, final.expires_at) }
    return (await locks.isHeld(id)) ? { ...row, expires_at: expiryOf(app) } : row
  }
}
