import { add, amountOf, atLeastNothing, growth, nothing, subtract } from '../../backends/amount.ts'
import type { Amount, Entry, ListOptions, MountPoint, OpenFile, PresignOptions } from '../../backends/backend.ts'
import { hasCapability } from '../../backends/capabilities.ts'
import { AlreadyExists, NotFound } from '../../backends/errors.ts'
import { splitPath } from '../../backends/path.ts'
import { Problem, toProblem, withMembers } from '../../lib/problems.ts'
import { requireCapability, type Volume } from '../storage/volumes.ts'
import type { Reservation, ReserveOptions } from './quotas/index.ts'
import { type Announced, amountAt, createUpload, type Upload } from './write.ts'

/** A vfolder whose entries are in use. */
export interface OpenVfolder {
  id: string
  volume: Volume
  /** Tells that its usage is about to change, and sets room aside. */
  reserve(wanted: Amount, options?: ReserveOptions): Promise<Reservation>
}

export interface TargetOptions {
  overwrite: boolean
  /** The vfolder that `to` is in, when it is another one. */
  target?: OpenVfolder | undefined
  signal: AbortSignal
}

/** The entries of one vfolder. */
export function createVfolderFiles(vfolder: OpenVfolder) {
  const { id, volume, reserve } = vfolder
  const { backend } = volume

  /** Runs what changes the usage of this vfolder, and counts the change even of what fails half way. */
  async function counted<T>(
    wanted: Amount,
    change: (done: Amount) => Promise<T>,
    on = vfolder,
    options?: ReserveOptions,
  ): Promise<T> {
    const reservation = await on.reserve(wanted, options)
    const done = { ...nothing }
    try {
      return await change(done)
    } finally {
      await reservation.end(done)
    }
  }

  /** What an entry has in it. */
  async function amountIn(entry: Entry, signal: AbortSignal): Promise<Amount> {
    if (entry.type !== 'directory') return amountOf(entry)
    const total = { ...nothing }
    for await (const inside of backend.list(id, { path: entry.path, recursive: true, signal })) {
      add(total, amountOf(inside))
    }
    return total
  }

  async function copyTree(
    from: string,
    to: string,
    target: OpenVfolder,
    copyFile: (from: string, to: string) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    await refuseSymlinkOnTheWay(id, from, signal)
    await refuseSymlinkOnTheWay(target.id, to, signal)
    await backend.mkdir(target.id, to, { signal })
    for await (const entry of backend.list(id, { path: from, recursive: true, signal })) {
      const path = to + entry.path.slice(from.length)
      if (entry.type === 'directory') await backend.mkdir(target.id, path, { signal })
      else await copyFile(entry.path, path)
    }
  }

  /** Where a symlink leads on the way, two paths do not tell whether one directory is inside the other. */
  async function refuseSymlinkOnTheWay(folder: string, path: string, signal: AbortSignal): Promise<void> {
    const names = splitPath(path)
    for (const depth of names.keys()) {
      const ancestor = names.slice(0, depth).join('/')
      if (ancestor === '' || !(await isSymlink(folder, ancestor, signal))) continue
      throw new Problem('invalid_operation', `${ancestor} is a symlink; a directory cannot be copied through one.`)
    }
  }

  async function isSymlink(folder: string, path: string, signal: AbortSignal): Promise<boolean> {
    const entry = await backend.stat(folder, path, { signal }).catch((error) => {
      if (!(error instanceof NotFound)) throw error
    })
    return entry?.type === 'symlink'
  }

  function requireSameVolume(target: OpenVfolder): void {
    if (target.volume === volume) return
    const detail = `The vfolders are on the volumes ${volume.name} and ${target.volume.name}; clone between volumes instead.`
    throw new Problem('invalid_operation', detail)
  }

  return {
    volume,

    stat(path: string, signal: AbortSignal): Promise<Entry> {
      return backend.stat(id, checked(path), { signal })
    },

    list(options: ListOptions): AsyncIterable<Entry> {
      if (options.path !== undefined) checked(options.path)
      return backend.list(id, options)
    },

    read(path: string, signal: AbortSignal): Promise<OpenFile> {
      return backend.read(id, checked(path), { signal })
    },

    readMany: hasCapability(backend, 'readMany')
      ? (entries: Entry[], signal: AbortSignal) => backend.readMany(id, entries, { signal })
      : undefined,

    /** Begins to store files. */
    upload: (announced: Announced): Upload => createUpload(id, backend, reserve, announced),

    /** A directory that is there already is as good as a new one. */
    async mkdir(path: string, signal: AbortSignal): Promise<{ entry: Entry; created: boolean }> {
      const created = await backend.mkdir(id, checked(path), { signal }).then(
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

    async move(from: string, to: string, { overwrite, target = vfolder, signal }: TargetOptions): Promise<Entry> {
      checked(from)
      checked(to)
      if (target === vfolder) {
        await counted(nothing, async (done) => subtract(done, await backend.move(id, from, to, { overwrite, signal })))
      } else {
        requireSameVolume(target)
        const moved = await amountIn(await backend.stat(id, from, { signal }), signal)
        const wanted = { ...moved }
        if (overwrite) subtract(wanted, await amountAt(backend, target.id, to, signal))
        const arriving = async (arrived: Amount) => {
          const replaced = await backend.move(id, from, to, { overwrite, signal, toFolder: target.id })
          add(arrived, moved)
          subtract(arrived, replaced)
        }
        await counted(nothing, async (left) => {
          await counted(atLeastNothing(wanted), arriving, target, { from: id })
          subtract(left, moved)
        })
      }
      return backend.stat(target.id, to, { signal })
    },

    /** Copies a file, or a directory with all that is in it. */
    async copy(from: string, to: string, { overwrite, target = vfolder, signal }: TargetOptions): Promise<Entry> {
      const copying = requireCapability(volume, 'copy')
      checked(to)
      if (target === vfolder && `${to}/`.startsWith(`${from}/`)) {
        throw new Problem('invalid_operation', `${from} cannot be copied into itself.`)
      }
      requireSameVolume(target)
      const source = await backend.stat(id, checked(from), { signal })
      const options = { signal, ifAbsent: !overwrite, toFolder: target.id }
      const copyAll = async (done: Amount) => {
        const copyFile = async (fromPath: string, toPath: string) =>
          add(done, growth(await copying.copy(id, fromPath, toPath, options)))
        if (source.type === 'directory') await copyTree(from, to, target, copyFile, signal)
        else await copyFile(from, to)
      }
      const wanted = await amountIn(source, signal)
      if (overwrite) subtract(wanted, await amountAt(backend, target.id, to, signal))
      await counted(atLeastNothing(wanted), copyAll, target)
      return backend.stat(target.id, to, { signal })
    },

    /**
     * Removes what is there; a path that is not there needs no removing. The first error ends it, and has `deleted` and
     * `missing` with what was done before.
     */
    async remove(paths: string[], options: { recursive: boolean; signal: AbortSignal }) {
      for (const path of paths) checked(path)
      const result: { deleted: string[]; missing: string[] } = { deleted: [], missing: [] }
      await counted(nothing, async (done) => {
        for (const path of paths) {
          try {
            subtract(done, await backend.remove(id, path, options))
            result.deleted.push(path)
          } catch (error) {
            if (!(error instanceof NotFound)) throw error
            result.missing.push(path)
          }
        }
      }).catch((error) => {
        throw withMembers(toProblem(error), result)
      })
      return result
    },

    /** A URL by which a client reads a file from the storage itself. */
    async presign(path: string, options: PresignOptions): Promise<string> {
      return requireCapability(volume, 'presign').presign(id, checked(path), options)
    },

    async mount(path?: string): Promise<MountPoint> {
      return requireCapability(volume, 'mount').mount(id, path === undefined ? undefined : checked(path))
    },
  }
}

export type VfolderFiles = ReturnType<typeof createVfolderFiles>

function checked(path: string): string {
  splitPath(path)
  return path
}
