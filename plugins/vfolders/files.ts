import {
  add,
  amountOf,
  atLeastNothing,
  difference,
  growthOf,
  isNothing,
  nothing,
  subtract,
} from '../../backends/amount.ts'
import type {
  Amount,
  Entry,
  ListOptions,
  MountPoint,
  OnProgress,
  OpenFile,
  PresignOptions,
} from '../../backends/backend.ts'
import { hasCapability } from '../../backends/capabilities.ts'
import {
  AccessDenied,
  AlreadyExists,
  BackendError,
  IsADirectory,
  NotFound,
  SourceChanged,
  Unavailable,
  Unconfirmed,
} from '../../backends/errors.ts'
import { type EntryPath, parsePath } from '../../backends/path.ts'
import { currentContext, currentRequestId, type LogContext, newRequestId } from '../../lib/context.ts'
import { isRefusal, Problem, toProblem, withMembers } from '../../lib/problems.ts'
import { requireCapability, type Volume } from '../storage/volumes.ts'
import type { Facts } from '../work/audit/facts.ts'
import type { AuditRow } from '../work/audit/rows.ts'
import type { NewEvent } from '../work/events/event.ts'
import { type Ended, inOneStep, ofRemoval, type Removal } from './audited.ts'
import { isMissing } from './find-entry.ts'
import { listMany } from './list.ts'
import { bytesReceived, type UploadKind } from './notices.ts'
import type { ReserveOptions } from './quotas/index.ts'
import type { Reservation } from './quotas/reservation.ts'
import { requireSpace } from './space.ts'
import { fileMoved, filesDeleted, filesStored, type Stored } from './told.ts'
import { countEntries } from './usage.ts'
import { type Announced, amountAt, createUpload, type Upload } from './write.ts'

/** A vfolder whose entries are in use. */
export interface OpenVfolder {
  id: string
  volume: Volume
  /** Tells that its usage is about to change, and sets room aside. */
  reserve(wanted: Amount, options?: ReserveOptions): Promise<Reservation>
  /** Refuses what it has no room for, whatever it replaces. @throws {Problem} `quota_exceeded` */
  requireRoom(bytes: number): Promise<void>
  /** Lets a job count its usage, of which nobody can tell how it has changed. */
  recount(): Promise<void>
  /** What the audit trail says of what is done in it. */
  audited(facts: Facts, context?: LogContext): AuditRow[]
}

export interface TargetOptions {
  overwrite: boolean
  /** The vfolder that `to` is in, when it is another one. */
  target?: OpenVfolder | undefined
  signal: AbortSignal
}

interface MoveOptions extends TargetOptions {
  /** As that of a backend. */
  onProgress?: OnProgress
}

/** The entries of one vfolder. */
export function createVfolderFiles(vfolder: OpenVfolder) {
  const { id, volume } = vfolder
  const { backend } = volume

  /** Runs a `change` of the usage of this vfolder, and counts and tells what it has done even if it fails half way. */
  async function runCounted<T>(
    wanted: Amount,
    change: (done: Amount, events: NewEvent[], reservation: Reservation) => Promise<T>,
    {
      on = vfolder,
      options,
      audited,
    }: { on?: OpenVfolder; options?: ReserveOptions; audited?: (ended: Ended) => Facts[] } = {},
  ): Promise<T> {
    const reservation = await on.reserve(wanted, options)
    const done = { ...nothing }
    const events: NewEvent[] = []
    let outcome: Pick<Facts, 'outcome' | 'code'> = {}
    try {
      return await change(done, events, reservation)
    } catch (error) {
      const { code } = toProblem(error)
      outcome = { outcome: isRefusal(code) ? 'refused' : 'failed', code }
      if (error instanceof Unconfirmed) add(done, error.change)
      throw error
    } finally {
      const facts = audited?.({ ...outcome, done }) ?? []
      await reservation.end(
        done,
        events,
        facts.flatMap((one) => on.audited(one)),
      )
    }
  }

  /** The amount of an entry with all that is in it. */
  async function amountIn(path: EntryPath, entry: Entry, signal: AbortSignal): Promise<Amount> {
    return entry.type === 'directory' ? countEntries(backend, id, { path, signal }) : amountOf(entry)
  }

  /** With a symlink on the way, two paths do not tell whether one directory is inside the other. */
  async function refuseSymlinkOnTheWay(folder: string, path: EntryPath, signal: AbortSignal): Promise<void> {
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) {
      const ancestor = parsePath(path.slice(0, end))
      if ((await find(folder, ancestor, signal))?.type !== 'symlink') continue
      throw new Problem('invalid_operation', `${ancestor} is a symlink; a directory cannot be copied through one.`)
    }
  }

  async function find(folder: string, path: EntryPath, signal: AbortSignal): Promise<Entry | undefined> {
    return backend.stat(folder, path, { signal }).catch((error) => {
      if (error instanceof NotFound) return undefined
      throw error
    })
  }

  /**
   * Runs `work` with a way to move. Of a move that is broken off half way, or that goes on with such a one, only a count
   * tells what it has changed: after all that `work` counts itself.
   */
  async function runRecounted(target: OpenVfolder, work: (move: typeof backend.move) => Promise<void>): Promise<void> {
    let isPartial = false
    const onResume = () => {
      isPartial = true
    }
    try {
      await work((folder, from, to, options) =>
        backend.move(folder, from, to, { ...options, onResume }).catch((error) => {
          isPartial ||= mayBePartial(error)
          throw error
        }),
      )
    } finally {
      if (isPartial) for (const changed of new Set([vfolder, target])) await changed.recount()
    }
  }

  /** Moves into another vfolder, and counts in both. */
  async function moveAcross(
    move: typeof backend.move,
    from: EntryPath,
    to: EntryPath,
    { overwrite, target, signal, onProgress: tell }: MoveOptions & { target: OpenVfolder },
  ): Promise<void> {
    requireSameVolume(target)
    const moved = await amountIn(from, await backend.stat(id, from, { signal }), signal)
    const wanted = { ...moved }
    if (overwrite) subtract(wanted, await amountAt(backend, target.id, to, signal))
    // What an earlier call has moved, or is about to, is told by no count from before.
    let gone: Amount | undefined
    const onProgress = (done: Amount) => {
      gone = done
      tell?.(done)
    }
    const told = (folder: string) => fileMoved(folder, { folder: id, path: from }, { folder: target.id, path: to })
    const moveIn = async (arrived: Amount, events: NewEvent[]) => {
      try {
        subtract(arrived, await move(id, from, to, { overwrite, signal, toFolder: target.id, onProgress }))
        gone ??= moved
        events.push(told(target.id))
      } catch (error) {
        if (error instanceof Unconfirmed) gone ??= moved
        throw error
      } finally {
        add(arrived, gone ?? nothing)
      }
    }
    await runCounted(nothing, async (left, events) => {
      try {
        await runCounted(atLeastNothing(wanted), moveIn, {
          on: target,
          options: { from: id },
          audited: inOneStep({ action: 'entry.move', path: to, subject: `${id}/${from}` }),
        })
        events.push(told(id))
      } catch (error) {
        // What it says is of the other vfolder.
        throw error instanceof Unconfirmed ? toProblem(error) : error
      } finally {
        subtract(left, gone ?? nothing)
      }
    })
  }

  function requireSameVolume(target: OpenVfolder): void {
    if (target.volume === volume) return
    const detail = `The vfolders are on the volumes ${volume.name} and ${target.volume.name}; clone between volumes instead.`
    throw new Problem('invalid_operation', detail)
  }

  /** @throws before a directory is copied in vain */
  async function checkTreeCopy(from: EntryPath, to: EntryPath, target: OpenVfolder, signal: AbortSignal) {
    await refuseSymlinkOnTheWay(id, from, signal)
    await refuseSymlinkOnTheWay(target.id, to, signal)
    if (await find(target.id, to, signal)) throw new AlreadyExists(`${to} exists already`)
  }

  return {
    volume,

    stat(path: EntryPath, signal: AbortSignal): Promise<Entry> {
      return backend.stat(id, path, { signal })
    },

    list(options: ListOptions): AsyncIterable<Entry> {
      return backend.list(id, options)
    },

    /** The same, many entries at a time where the storage can; with a pattern, those that match. */
    listMany(options: ListOptions): AsyncIterable<Entry[]> {
      return listMany(backend, id, options)
    },

    read(path: EntryPath, signal: AbortSignal): Promise<OpenFile> {
      return backend.read(id, path, { signal })
    },

    readMany: hasCapability(backend, 'readMany')
      ? (entries: Entry[], signal: AbortSignal) => backend.readMany(id, entries, { signal })
      : undefined,

    /**
     * Refuses so many bytes of files, whose names are not known yet, when there cannot be room for them.
     * @throws {Problem} `quota_exceeded`, `no_space`
     */
    async requireRoom(bytes: number, signal: AbortSignal): Promise<void> {
      await vfolder.requireRoom(bytes)
      await requireSpace(backend, bytes, { signal })
    },

    /** Begins to store files. */
    upload(announced: Announced, kind: UploadKind): Upload {
      const onReceived = (bytes: number) => bytesReceived.give(kind, volume.name, bytes)
      // The storage tells that a file has appeared in the context of whatever else it does.
      const context = currentContext()
      const audited = (path: string, bytes: number) => vfolder.audited({ action: 'file.store', path, bytes }, context)
      return createUpload(id, backend, vfolder, announced, { onReceived, audited })
    },

    /** A directory that is there already is as good as a new one. */
    async mkdir(path: EntryPath, signal: AbortSignal): Promise<{ entry: Entry; created: boolean }> {
      const created = await backend.mkdir(id, path, { signal }).then(
        () => true,
        (error) => {
          if (error instanceof AlreadyExists) return false
          throw error
        },
      )
      const entry = await backend.stat(id, path, { signal })
      if (entry.type !== 'directory') throw new AlreadyExists(`${path} exists already and is a ${entry.type}`)
      return { entry, created }
    },

    async move(
      from: EntryPath,
      to: EntryPath,
      { overwrite, target = vfolder, signal, onProgress }: MoveOptions,
    ): Promise<Entry> {
      const options = { overwrite, signal, ...(onProgress && { onProgress }) }
      await runRecounted(target, async (move) => {
        if (target !== vfolder) await moveAcross(move, from, to, { ...options, target })
        else {
          const moveHere = async (done: Amount, events: NewEvent[]) => {
            subtract(done, await move(id, from, to, options))
            events.push(fileMoved(id, { folder: id, path: from }, { folder: id, path: to }))
          }
          await runCounted(nothing, moveHere, {
            audited: inOneStep({ action: 'entry.move', path: to, subject: `${id}/${from}` }),
          })
        }
      })
      return backend.stat(target.id, to, { signal })
    },

    /**
     * Refuses what would be moved in vain.
     * @throws {NotFound}, {AlreadyExists}, {IsADirectory} and {Problem} `invalid_operation`
     */
    async checkMove(
      from: EntryPath,
      to: EntryPath,
      { overwrite, target = vfolder, signal }: TargetOptions,
    ): Promise<void> {
      requireSameVolume(target)
      if (target === vfolder && `${to}/`.startsWith(`${from}/`)) {
        throw new Problem('invalid_operation', `${from} cannot be moved into itself.`)
      }
      const source = await backend.stat(id, from, { signal })
      const there = await find(target.id, to, signal)
      if (there === undefined) return
      if (!overwrite || source.type === 'directory') throw new AlreadyExists(`${to} exists already`)
      if (there.type === 'directory') throw new IsADirectory(`${to} is a directory`)
    },

    /**
     * Copies a file, or a directory with all that is in it.
     * @returns undefined, and has done nothing, when that takes a job: the storage has no step by which a directory
     * appears
     */
    async copy(
      from: EntryPath,
      to: EntryPath,
      { overwrite, target = vfolder, signal }: TargetOptions,
    ): Promise<Entry | undefined> {
      const copying = requireCapability(volume, 'copy')
      if (target === vfolder && `${to}/`.startsWith(`${from}/`)) {
        throw new Problem('invalid_operation', `${from} cannot be copied into itself.`)
      }
      requireSameVolume(target)
      const source = await backend.stat(id, from, { signal })
      if (source.type === 'directory') {
        await checkTreeCopy(from, to, target, signal)
        if (!hasCapability(backend, 'copyTree')) return undefined
      }
      const told = (stored: Pick<Stored, 'size' | 'files' | 'etag' | 'replaced'>) =>
        filesStored(target.id, [
          {
            path: to,
            type: source.type,
            ...stored,
            source: { folder: id, path: from },
            requestId: currentRequestId() ?? newRequestId(),
          },
        ])
      const copyAll = async (done: Amount, events: NewEvent[], reservation: Reservation) => {
        const { ended } = reservation
        const options = { toFolder: target.id, signal: ended === undefined ? signal : AbortSignal.any([signal, ended]) }
        if (source.type !== 'directory') {
          const copied = await copying.copy(id, from, to, { ...options, ifAbsent: !overwrite })
          add(done, growthOf(copied))
          const { size, etag } = copied.entry
          events.push(...told({ size, etag, replaced: copied.replaced !== undefined }))
        } else {
          // Others may have added to the directory since it was counted.
          const admit = (copied: Amount) => reservation.cover(copied)
          const trees = requireCapability(volume, 'copyTree')
          const { files, bytes } = await trees.copyTree(id, from, to, { ...options, admit })
          add(done, { files, bytes })
          events.push(...told({ size: bytes, files, replaced: false }))
        }
      }
      const wanted = await amountIn(from, source, signal)
      if (overwrite) subtract(wanted, await amountAt(backend, target.id, to, signal))
      const audited = inOneStep({ action: 'entry.copy', path: to, subject: `${id}/${from}` })
      await runCounted(atLeastNothing(wanted), copyAll, { on: target, options: { ask: true }, audited })
      return backend.stat(target.id, to, { signal })
    },

    /**
     * Removes entries; a path that does not exist is no error. The first error ends the removal, and has `deleted` and
     * `missing` with what was done before.
     */
    async remove(
      paths: Iterable<EntryPath>,
      { recursive, signal, onProgress: tell }: { recursive: boolean; signal: AbortSignal; onProgress?: OnProgress },
    ) {
      const result: { deleted: string[]; missing: string[] } = { deleted: [], missing: [] }
      const removal: Removal = { tried: [], deleted: result.deleted }
      const removeAndTell = async (done: Amount, events: NewEvent[]) => {
        try {
          await removeAll(done)
        } finally {
          events.push(...filesDeleted(id, result.deleted, false))
        }
      }
      const audited = (ended: Ended) => ofRemoval(removal, ended)
      await runCounted(nothing, removeAndTell, { audited }).catch((error) => {
        throw withMembers(toProblem(error), result)
      })
      return result

      async function removeAll(done: Amount): Promise<void> {
        for (const path of paths) {
          signal.throwIfAborted()
          removal.tried.push(path)
          let removed = nothing
          const onProgress = (gone: Amount) => {
            removed = gone
            tell?.(difference(gone, done))
          }
          try {
            onProgress(await backend.remove(id, path, { recursive, signal, onProgress }))
            result.deleted.push(path)
          } catch (error) {
            if (error instanceof Unconfirmed) result.deleted.push(path)
            else if (!isNothing(removed)) removal.half = { path, bytes: Math.abs(removed.bytes) }
            if (!isMissing(error)) throw error
            result.missing.push(path)
          } finally {
            subtract(done, removed)
          }
        }
      }
    },

    /** A URL by which a client reads a file from the storage itself. */
    async presign(path: EntryPath, options: PresignOptions): Promise<string> {
      return requireCapability(volume, 'presign').presign(id, path, options)
    },

    async mount(path?: EntryPath): Promise<MountPoint> {
      return requireCapability(volume, 'mount').mount(id, path)
    },
  }
}

/** Whether a move may have been broken off half way, and was not merely refused. */
export function mayBePartial(error: unknown): boolean {
  if (!(error instanceof BackendError)) return true
  if (error instanceof Unconfirmed) return false
  return error instanceof Unavailable || error instanceof AccessDenied || error instanceof SourceChanged
}

export type VfolderFiles = ReturnType<typeof createVfolderFiles>
