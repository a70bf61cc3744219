import type { FastifyInstance } from 'fastify'
import type { Insertable } from 'kysely'
import { parsePath } from '../../../backends/path.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { keyOf } from '../../access/signed-urls.ts'
import type { Tables } from '../../storage/database/tables.ts'
import { uploadPassed } from '../notices.ts'
import { expiryOf } from './progress.ts'
import {
  type Given,
  type GivenBefore,
  hashOf,
  keptUntil,
  type NewUpload,
  newName,
  type UploadRow,
  uploadTaken,
} from './rows.ts'

/** An upload whose few bytes all come at once. It never has a place of its own to go on from. */
type Small = Omit<NewUpload, 'kind' | 'parts' | 'named'> & { size: number }

interface Coming {
  chunks: AsyncIterable<Buffer>
  signal: AbortSignal
}

export type SmallUpload = Small & Coming

/**
 * Stores an upload whose few bytes come with its creation. One that is broken off leaves nothing, and its client, which
 * has not learnt its URL, begins another one. Its row is for a client that asks how far it has come, and no promise.
 */
export async function storeSmallUpload(app: FastifyInstance, upload: SmallUpload): Promise<Given & { row: UploadRow }> {
  const named = newName()
  const { size } = upload
  const sha256 = await storeBytes(app, upload)
  const row = await app.database.unflushed
    .insertInto('uploads')
    .values({ ...rowOf(app, named, upload), state: 'finished', offset: size, sha256 })
    .returningAll()
    .executeTakeFirstOrThrow()
  tellCompleted(app, row)
  return { ...named, row }
}

/**
 * Writes down that a small upload, which has had its name before, is begun, and that this process has it.
 * @returns whether nobody else had begun it
 */
export async function claimSmallUpload(app: FastifyInstance, named: GivenBefore, upload: Small): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await app.database.unflushed
    .insertInto('uploads')
    .values({ ...rowOf(app, named, upload), named_until: named.until, process: app.processes.id })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .executeTakeFirstOrThrow()
  return numInsertedOrUpdatedRows === 1n
}

/** Stores one that was claimed. @throws {Problem} `upload_interrupted` when another process has it by the end */
export async function storeClaimed(
  app: FastifyInstance,
  { id, until }: GivenBefore,
  upload: SmallUpload,
): Promise<UploadRow> {
  const sha256 = await storeBytes(app, upload)
  const expiresAt = keptUntil({ expires_at: expiryOf(app), named_until: until })
  const row = await app.database.unflushed
    .updateTable('uploads')
    .set({ state: 'finished', offset: upload.size, sha256, expires_at: expiresAt, process: null })
    .where('id', '=', id)
    .where('process', '=', app.processes.id)
    .returningAll()
    .executeTakeFirst()
  if (row === undefined) throw uploadTaken()
  tellCompleted(app, row)
  return row
}

/** Lets one that was claimed be begun by another request. */
export async function withdrawClaim({ database: db, processes }: FastifyInstance, id: string): Promise<void> {
  await db.writeLater(async () => {
    await db.unflushed.deleteFrom('uploads').where('id', '=', id).where('process', '=', processes.id).execute()
  })
}

async function storeBytes(
  app: FastifyInstance,
  { permission, maxBytes, size, chunks, signal }: SmallUpload,
): Promise<string> {
  const files = await app.vfolders.files(permission.folder)
  const upload = files.upload({ bytes: size, partly: false }, 'tus')
  try {
    return (await upload.write(parsePath(permission.path), chunks, { size, maxBytes, signal })).sha256
  } finally {
    await upload.end()
  }
}

/** As it is before its bytes come. */
function rowOf(app: FastifyInstance, { id, token }: Given, { permission, maxBytes, metadata, size }: Small) {
  return {
    id,
    vfolder: permission.folder,
    path: parsePath(permission.path),
    token_hash: hashOf(token),
    state: 'open',
    kind: 'whole',
    size,
    offset: 0,
    max_bytes: maxBytes,
    bytes_per_second: permission.bytesPerSecond ?? null,
    url_key: keyOf(permission),
    reserved_bytes: 0,
    reserved_files: 0,
    metadata: metadata ?? null,
    request_id: currentRequestId() ?? id,
    origin_request_id: permission.requestId,
    expires_at: expiryOf(app),
    created_at: new Date(app.database.now()).toISOString(),
  } satisfies Insertable<Tables['uploads']>
}

function tellCompleted(
  { log }: FastifyInstance,
  { id, vfolder: folder, path, size, sha256, origin_request_id }: UploadRow,
): void {
  uploadPassed.give('begun', 'tus')
  uploadPassed.give('finished', 'tus')
  log.info({ upload_id: id, folder, path, size, sha256, origin_request_id }, 'upload completed')
}
