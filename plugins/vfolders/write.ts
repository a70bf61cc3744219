import { amountOf, growthOf, nothing } from '../../backends/amount.ts'
import type { Amount, Backend, WriteOptions, Written } from '../../backends/backend.ts'
import { BackendError, IsADirectory, Unavailable, Unconfirmed } from '../../backends/errors.ts'
import type { EntryPath } from '../../backends/path.ts'
import { currentContext, newRequestId } from '../../lib/context.ts'
import { createDigests, type Expected } from '../../lib/digests.ts'
import { Problem, toProblem } from '../../lib/problems.ts'
import type { AuditRow } from '../work/audit/rows.ts'
import { findEntry } from './find-entry.ts'
import type { ReserveOptions } from './quotas/index.ts'
import type { Reservation } from './quotas/reservation.ts'
import { roomFor } from './quotas/room.ts'
import { requireSpace } from './space.ts'
import type { Stored } from './told.ts'
import { until } from './until.ts'

/** From this size on the storage is asked whether it has so many bytes left. */
export const largeBytes = 64 * 1024 * 1024
/** Up to this size a look at what is in a file's place costs more than the room that it would save for a moment. */
export const smallBytes = 64 * 1024

export interface StoredFile {
  path: string
  size: number
  /** In hexadecimal, of the bytes as they came. */
  sha256: string
}

export interface UploadOptions extends Pick<WriteOptions, 'size' | 'ifAbsent' | 'ifMatch' | 'signal'> {
  maxBytes: number
  /** What the bytes must hash to for the file to appear. */
  digests?: Expected[]
}

/** What is about to come, as far as it is known before the first byte. */
export interface Announced {
  bytes: number
  /** Begins even when there is room for only a part of it: the number is an upper bound. */
  partly: boolean
}

export type Upload = ReturnType<typeof createUpload>

/** Who uses the vfolder, besides. */
interface Watchers {
  onReceived(bytes: number): void
  /** What the audit trail says of a stored file. */
  audited(path: string, bytes: number): AuditRow[]
}

/** As of a vfolder in use. */
interface Room {
  reserve(wanted: Amount, options: ReserveOptions): Promise<Reservation>
  requireRoom(bytes: number): Promise<void>
}

/** Stores one or more files in a vfolder, in room that is reserved before the first byte. The caller must `end` it. */
export function createUpload(
  folder: string,
  backend: Backend,
  { reserve, requireRoom }: Room,
  announced: Announced,
  { onReceived, audited }: Watchers,
) {
  let reservation: Reservation | undefined

  /** Before room is set aside, which would keep others out meanwhile. A limit that it is over is told first. */
  async function requireSpaceFor(bytes: number, signal: AbortSignal): Promise<void> {
    await requireSpace(backend, bytes, { signal }).catch(async (error) => {
      await requireRoom(bytes)
      throw error
    })
  }

  return {
    /**
     * Stores a file and hashes it on the way.
     * @throws {Problem} `file_too_large` and `quota_exceeded` before `source` is asked where `size` tells, and otherwise
     * as soon as it goes over `maxBytes` or there is no room for more; `digest_mismatch`
     */
    async write(path: EntryPath, source: AsyncIterable<Buffer>, options: UploadOptions): Promise<StoredFile & Written> {
      const { maxBytes, digests, ...writing } = options
      const { signal } = options
      const limit = Math.min(maxBytes, backend.limits.maxFileBytes)
      if (options.size !== undefined && options.size > limit) throw tooLarge(path, limit)
      const place = createPlace(async () => amountAt(backend, folder, path, signal))
      if (options.size !== undefined && options.size > smallBytes) await place.look()
      // Only for a large one: asking takes a system call. What is only an upper bound may fit all the same.
      if (!announced.partly && announced.bytes > largeBytes) await requireSpaceFor(announced.bytes, signal)
      if (reservation === undefined) {
        const shared = !announced.partly && announced.bytes <= smallBytes
        const options = shared ? ({ kind: 'shared' } as const) : { partly: announced.partly }
        const begin = (needed: Amount) => reserve(needed, options)
        reservation = await place.within(announced.bytes, begin)
      }
      const room = reservation
      const cover = (needed: Amount) => room.cover(needed)
      const hash = createDigests(digests, options.size)
      let verified = { sha256: '' }

      async function* metered(): AsyncGenerator<Buffer> {
        let bytes = 0
        await place.within(bytes, cover)
        for await (const chunk of room.ended === undefined ? source : until(source, room.ended)) {
          bytes += chunk.length
          onReceived(chunk.length)
          if (bytes > limit) throw tooLarge(path, limit)
          if (bytes > smallBytes && !place.isSeen()) await place.look()
          await place.within(bytes, cover)
          yield chunk
          // Only now, since the memory of the chunk may go to the hashing thread.
          const hashed = hash.update(chunk)
          if (hashed !== undefined) await hashed
        }
        verified = await hash.verified()
        // The file that it replaces may have changed meanwhile; from here to the replacement it takes only a moment.
        if (place.isSeen()) await place.look()
        await place.within(bytes, cover)
        await room.confirm()
      }

      const { request_id: requestId = newRequestId(), origin_request_id: originRequestId } = currentContext() ?? {}
      const describe = ({ entry, replaced }: Written): Stored => ({
        path,
        type: 'file',
        size: entry.size,
        sha256: verified.sha256,
        etag: entry.etag,
        replaced: replaced !== undefined,
        requestId,
        originRequestId,
      })
      const counter = createCounter(room, describe, (bytes) => audited(path, bytes))
      try {
        const options = { ...writing, onAppeared: counter.appeared }
        const written = await backend.write(folder, path, metered(), options).catch(async (error) => {
          if (error instanceof Unconfirmed) await counter.changed(error.change)
          throw error
        })
        await counter.stored(written)
        return { path, size: written.entry.size, ...verified, ...written }
      } finally {
        hash.end()
        await counter.end()
      }
    },

    async end(): Promise<void> {
      await reservation?.end()
    },
  }
}

/** Counts what a write has changed, once, and as soon as others see it: they may replace the file before it is durable. */
function createCounter(
  room: Reservation,
  describe: (written: Written) => Stored,
  audited: (bytes: number) => AuditRow[],
) {
  let counting: Promise<void> | undefined
  const stored = (written: Written): Promise<void> => {
    counting ??= room.settle(growthOf(written), describe(written), audited(written.entry.size))
    return counting
  }
  return {
    stored,
    changed(change: Amount): Promise<void> {
      counting ??= room.settle(change, undefined, audited(change.bytes))
      return counting
    },
    appeared: (written: Written) => void stored(written).catch(() => {}), // Told to the next one who counts.
    /** What comes later, of a write that was given up, counts nothing. */
    async end(): Promise<void> {
      counting ??= Promise.resolve()
      await counting.catch(() => {})
    },
  }
}

/** Where a file goes, and the room that it needs there. Until it is looked at, nothing counts as replaced. */
function createPlace(find: () => Promise<Amount>) {
  let replaced: Amount | undefined
  return {
    isSeen: () => replaced !== undefined,

    async look(): Promise<void> {
      replaced = await find()
    },

    /** Takes room for so many bytes; where there is not enough, it takes what is replaced into account. */
    async within<T>(bytes: number, take: (needed: Amount) => Promise<T>): Promise<T> {
      try {
        return await take(roomFor(bytes, replaced ?? nothing))
      } catch (error) {
        if (replaced !== undefined || toProblem(error).code !== 'quota_exceeded') throw error
        replaced = await find()
        return take(roomFor(bytes, replaced))
      }
    },
  }
}

/** A file is larger than it may be. */
export function tooLarge(path: string, limit: number): Problem {
  const members = { maxBytes: limit }
  return new Problem('file_too_large', `${path} is over the limit of ${limit} bytes.`, { members })
}

/** The amount at a path that would be replaced. The backend itself refuses, later, what cannot be replaced. */
export async function amountAt(
  backend: Backend,
  folder: string,
  path: EntryPath,
  signal: AbortSignal,
): Promise<Amount> {
  const entry = await backend.stat(folder, path, { signal }).catch((error: unknown) => {
    if (!(error instanceof BackendError) || error instanceof Unavailable) throw error
  })
  return entry === undefined ? nothing : amountOf(entry)
}

/**
 * The same, but refuses what cannot be replaced now, before all the bytes are sent.
 * @throws {IsADirectory} and whatever `stat` throws except {NotFound}
 */
export async function replaceableAt(
  backend: Backend,
  folder: string,
  path: EntryPath,
  signal: AbortSignal,
): Promise<Amount> {
  const entry = await findEntry(backend, folder, path, signal)
  if (entry?.type === 'directory') throw new IsADirectory(`${path} is a directory`)
  return entry === undefined ? nothing : amountOf(entry)
}
