import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto'
import type { Selectable, Updateable } from 'kysely'
import { Problem } from '../../../lib/problems.ts'
import type { Rate } from '../../access/rates.ts'
import { defaultMaxUploads, keyOf, type Permission } from '../../access/signed-urls.ts'
import type { Database, Tables } from '../../storage/database/tables.ts'
import { selectIds } from '../rows.ts'

export type UploadRow = Selectable<Tables['uploads']>

export interface NewUpload {
  permission: Permission
  maxBytes: number
  kind: UploadRow['kind']
  /** Undefined when the client says it later. */
  size: number | undefined
  metadata: string | undefined
  parts?: string
  /** The name that it was given before it was begun; absent: a new one. */
  named?: GivenBefore
}

export interface Named {
  id: string
  token: string | undefined
}

/** What an upload is named by. */
export interface Given {
  id: string
  token: string
}

export interface GivenBefore extends Given {
  /** Until when the name can begin an upload, in milliseconds since 1970. */
  until: number
}

/** What the URL of an upload carries: not guessable, and not to be read from the database. */
export function newToken(): string {
  return randomBytes(32).toString('base64url')
}

export function newName(): Given {
  return { id: randomUUID(), token: newToken() }
}

export function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}

/** The rate of the signed URL that began the upload, shared with all else that the URL moves. */
export function rateOfUpload({ url_key: key, bytes_per_second: bytesPerSecond }: UploadRow): Rate | undefined {
  return key === null || bytesPerSecond === null ? undefined : { key, bytesPerSecond }
}

export async function readUpload(db: Database, id: string): Promise<UploadRow | undefined> {
  return db.selectFrom('uploads').selectAll().where('id', '=', id).executeTakeFirst()
}

/**
 * @param now by the clock of the database
 * @throws {Problem} `token_required`, `upload_not_found` or `upload_expired`
 */
export function requireUpload(row: UploadRow | undefined, token: string | undefined, now: number): UploadRow {
  if (token === undefined || token === '') throw new Problem('token_required', 'This URL needs its token.')
  // A caller without the token must not learn whether the upload exists.
  if (row === undefined || !timingSafeEqual(Buffer.from(row.token_hash), Buffer.from(hashOf(token))))
    throw uploadNotFound()
  if (row.state === 'ended') throw uploadNotFound()
  if (row.expires_at <= now) {
    throw new Problem('upload_expired', `The upload has expired at ${new Date(row.expires_at).toISOString()}.`)
  }
  return row
}

export function uploadNotFound(): Problem {
  return new Problem('upload_not_found', 'There is no such upload, or not any more.')
}

/**
 * Refuses one more upload by a signed URL that has as many open as it may. A final one takes the places of its parts.
 * To be called in the transaction that begins it, behind a lock that all who begin one in the vfolder take.
 * @throws {Problem} `too_many_uploads`
 */
export async function requirePlace(trx: Database, permission: Permission, now: number): Promise<void> {
  const { maxUploads = defaultMaxUploads } = permission
  const { open } = await trx
    .selectFrom('uploads')
    .select((eb) => eb.fn.countAll<number>().as('open'))
    .where('url_key', '=', keyOf(permission))
    .where('state', 'in', notOver)
    .where('kind', '!=', 'final')
    .where('expires_at', '>', now)
    .executeTakeFirstOrThrow()
  if (open < maxUploads) return
  const detail = `This URL has ${open} uploads open, of ${maxUploads} allowed: finish or end one of them, or wait until it expires.`
  throw new Problem('too_many_uploads', detail, { members: { maxUploads, open } })
}

export function offsetMismatch(offset: number): Problem {
  return new Problem('upload_offset_mismatch', `The upload goes on from ${offset}.`, { members: { offset } })
}

export function uploadTaken(): Problem {
  return new Problem('upload_interrupted', 'Another request goes on with this upload.')
}

/**
 * Keeps the upload for this process until the transaction ends, unless another one has it by now: this one may have
 * stood still, or been cut off, and been taken for dead. @throws {Problem} `upload_interrupted`
 */
export async function holdUpload(trx: Database, id: string, process: string): Promise<void> {
  const row = await trx
    .selectFrom('uploads')
    .select('id')
    .where('id', '=', id)
    .where('process', '=', process)
    .forUpdate()
    .executeTakeFirst()
  if (row === undefined) throw uploadTaken()
}

/** Changes the row of an upload that this process has. @throws {Problem} `upload_interrupted` as `holdUpload` says */
export async function changeHeld(
  on: Database,
  id: string,
  process: string,
  change: Updateable<Tables['uploads']>,
): Promise<void> {
  const { numUpdatedRows } = await on
    .updateTable('uploads')
    .set(change)
    .where('id', '=', id)
    .where('process', '=', process)
    .executeTakeFirstOrThrow()
  if (numUpdatedRows === 0n) throw uploadTaken()
}

/** Of uploads that may go on, or are becoming a file. */
const notOver: UploadRow['state'][] = ['open', 'completing']

/** Whether nothing can follow. */
export function isOver({ state }: UploadRow): boolean {
  return !notOver.includes(state)
}

/**
 * Until when the row of one that is over is kept: its name must not begin it a second time, which would replace what has
 * come to its path since.
 */
export function keptUntil({ expires_at, named_until }: Pick<UploadRow, 'expires_at' | 'named_until'>): number {
  return Math.max(expires_at, named_until ?? 0)
}

/** What stays of one that somebody has ended, for as long as its name could begin it again. */
export function endedRow(row: UploadRow): UploadRow {
  const state = row.state === 'finished' ? 'finished' : 'ended'
  const nothing = { reserved_bytes: 0, reserved_files: 0, process: null, wanted: 0 }
  return { ...row, ...nothing, state, expires_at: keptUntil(row) }
}

/** Whether all bytes are there, and become a file. */
export function isWhole({ kind, size, offset }: UploadRow): boolean {
  return kind !== 'partial' && size === offset
}

/** Those into a vfolder that are no file yet, by ID, after the given one. */
export async function listOpen(
  db: Database,
  vfolder: string,
  { limit, after = '' }: { limit: number; after?: string },
): Promise<UploadRow[]> {
  return db
    .selectFrom('uploads')
    .selectAll()
    .where('vfolder', '=', vfolder)
    .where('state', 'in', notOver)
    .where('id', '>', after)
    .orderBy('id')
    .limit(limit)
    .execute()
}

/** Uploads that have expired or lost their vfolder, and those that a dead process may have left half done. */
export async function findLeftovers(db: Database, now: number): Promise<string[]> {
  const parts = db.selectFrom('uploads as parts').where('parts.state', '=', 'open')
  const finalsWithBytes = parts.where('parts.final', 'is not', null).select('parts.final')
  const rows = await db
    .selectFrom('uploads')
    .select('id')
    .where((eb) =>
      eb.or([
        // Parts end with their final upload.
        eb.and([eb('expires_at', '<=', now), eb('final', 'is', null)]),
        eb('state', '=', 'completing'),
        eb.and([eb('state', '=', 'finished'), eb('id', 'in', finalsWithBytes)]),
        eb('vfolder', 'not in', selectIds(db)),
      ]),
    )
    .execute()
  return rows.map(({ id }) => id)
}
