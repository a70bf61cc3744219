import type { FastifyInstance } from 'fastify'
import { parsePath } from '../../../backends/path.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { keyOf } from '../../access/signed-urls.ts'
import { uploadPassed } from '../notices.ts'
import { expiryOf } from './progress.ts'
import { type Given, hashOf, type NewUpload, newName, type UploadRow } from './rows.ts'

export interface SmallUpload extends Omit<NewUpload, 'kind' | 'parts'> {
  size: number
  chunks: AsyncIterable<Buffer>
  signal: AbortSignal
}

/**
 * Stores an upload whose few bytes come with its creation. It never has a place of its own to go on from: one that is
 * broken off leaves nothing, and its client, which has not learnt its URL, begins another one. Its row is for a client
 * that asks how far it has come, and no promise.
 */
export async function storeSmallUpload(
  app: FastifyInstance,
  { permission, maxBytes, metadata, size, chunks, signal, named = newName() }: SmallUpload,
): Promise<Given & { row: UploadRow }> {
  const { database: db, log } = app
  const path = parsePath(permission.path)
  const files = await app.vfolders.files(permission.folder)
  const upload = files.upload({ bytes: size, partly: false }, 'tus')
  let sha256: string
  try {
    const stored = await upload.write(path, chunks, { size, maxBytes, signal })
    sha256 = stored.sha256
  } finally {
    await upload.end()
  }
  const { id, token } = named
  const row = await db.unflushed
    .insertInto('uploads')
    .values({
      id,
      vfolder: permission.folder,
      path,
      token_hash: hashOf(token),
      state: 'finished',
      kind: 'whole',
      size,
      offset: size,
      max_bytes: maxBytes,
      bytes_per_second: permission.bytesPerSecond ?? null,
      url_key: keyOf(permission),
      reserved_bytes: 0,
      reserved_files: 0,
      metadata: metadata ?? null,
      sha256,
      request_id: currentRequestId() ?? id,
      origin_request_id: permission.requestId,
      expires_at: expiryOf(app),
      created_at: new Date(db.now()).toISOString(),
    })
    // Of a name that was given before, another request may have been as quick.
    .onConflict((conflict) => conflict.column('id').doUpdateSet({ expires_at: expiryOf(app) }))
    .returningAll()
    .executeTakeFirstOrThrow()
  uploadPassed.give('begun', 'tus')
  uploadPassed.give('finished', 'tus')
  const fields = { upload_id: id, folder: permission.folder, path, size, sha256 }
  log.info({ ...fields, origin_request_id: permission.requestId }, 'upload completed')
  return { id, token, row }
}
