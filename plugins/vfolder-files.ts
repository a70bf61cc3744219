import { createHash } from 'node:crypto'
import type { Amount, Entry, ListOptions, MountPoint, OpenFile, Written } from '../backends/backend.ts'
import { AlreadyExists, NotFound } from '../backends/errors.ts'
import { splitPath } from '../backends/path.ts'
import { Problem } from './problems.ts'
import { requireCapability, type Volume } from './volumes.ts'

export interface StoredFile {
  path: string
  size: number
  /** In hexadecimal, of the bytes as they came. */
  sha256: string
}

type UsageChange = Amount

/** The entries of one vfolder. What changes them is told to `addUsage` as well. */
export function createVfolderFiles(id: string, volume: Volume, addUsage: (change: UsageChange) => Promise<void>) {
  const { backend } = volume

  async function copyTree(
    from: string,
    to: string,
    copyFile: (from: string, to: string) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    for (const path of [from, to]) await refuseSymlinkOnTheWay(path, signal)
    await backend.mkdir(id, to, { signal })
    for await (const entry of backend.list(id, { path: from, recursive: true, signal })) {
      const target = to + entry.path.slice(from.length)
      if (entry.type === 'directory') await backend.mkdir(id, target, { signal })
      else await copyFile(entry.path, target)
    }
  }

  /** Where a symlink leads on the way, two paths do not tell whether one directory is inside the other. */
  async function refuseSymlinkOnTheWay(path: string, signal: AbortSignal): Promise<void> {
    const names = splitPath(path)
    for (const depth of names.keys()) {
      const ancestor = names.slice(0, depth).join('/')
      if (ancestor === '' || !(await isSymlink(ancestor, signal))) continue
      throw new Problem('invalid_operation', `${ancestor} is a symlink; a directory cannot be copied through one.`)
    }
  }

  async function isSymlink(path: string, signal: AbortSignal): Promise<boolean> {
    const entry = await backend.stat(id, path, { signal }).catch((error) => {
      if (!(error instanceof NotFound)) throw error
    })
    return entry?.type === 'symlink'
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

    /**
     * Stores a file and hashes it on the way.
     * @throws {Problem} `file_too_large` as soon as `source` goes over `maxBytes`
     */
    async write(
      path: string,
      source: AsyncIterable<Buffer>,
      { maxBytes, signal }: { maxBytes: number; signal: AbortSignal },
    ): Promise<StoredFile> {
      const hash = createHash('sha256')
      const limit = Math.min(maxBytes, backend.limits.maxFileBytes)
      const written = await backend.write(id, checked(path), metered(source, limit, hash, path), { signal })
      await addUsage(growth(written))
      return { path, size: written.entry.size, sha256: hash.digest('hex') }
    },

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

    async move(from: string, to: string, options: { overwrite: boolean; signal: AbortSignal }): Promise<Entry> {
      const replaced = await backend.move(id, checked(from), checked(to), options)
      await addUsage({ bytes: -replaced.bytes, files: -replaced.files })
      return backend.stat(id, to, options)
    },

    /** Copies a file, or a directory with all that is in it. */
    async copy(from: string, to: string, { overwrite, signal }: { overwrite: boolean; signal: AbortSignal }) {
      const copying = requireCapability(volume, 'copy')
      checked(to)
      if (`${to}/`.startsWith(`${from}/`))
        throw new Problem('invalid_operation', `${from} cannot be copied into itself.`)
      const source = await backend.stat(id, checked(from), { signal })
      const change = { bytes: 0, files: 0 }
      const copyFile = async (fromPath: string, toPath: string) => {
        const { bytes, files } = growth(await copying.copy(id, fromPath, toPath, { signal, ifAbsent: !overwrite }))
        change.bytes += bytes
        change.files += files
      }
      try {
        if (source.type === 'directory') await copyTree(from, to, copyFile, signal)
        else await copyFile(from, to)
      } finally {
        await addUsage(change)
      }
      return backend.stat(id, to, { signal })
    },

    /** Removes what is there; a path that is not there needs no removing. */
    async remove(paths: string[], options: { recursive: boolean; signal: AbortSignal }) {
      for (const path of paths) checked(path)
      const result: { deleted: string[]; missing: string[] } = { deleted: [], missing: [] }
      const removed = { bytes: 0, files: 0 }
      try {
        for (const path of paths) {
          try {
            const { bytes, files } = await backend.remove(id, path, options)
            removed.bytes -= bytes
            removed.files -= files
            result.deleted.push(path)
          } catch (error) {
            if (!(error instanceof NotFound)) throw error
            result.missing.push(path)
          }
        }
      } finally {
        await addUsage(removed)
      }
      return result
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

/** Usage counts files and symlinks, and the bytes of files. */
function growth({ entry, replaced }: Written): UsageChange {
  const size = entry.type === 'file' ? entry.size : 0
  return { bytes: size - (replaced ?? 0), files: replaced === undefined ? 1 : 0 }
}

async function* metered(
  source: AsyncIterable<Buffer>,
  maxBytes: number,
  hash: ReturnType<typeof createHash>,
  path: string,
): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of source) {
    bytes += chunk.length
    if (bytes > maxBytes) {
      throw new Problem('file_too_large', `${path} is over the limit of ${maxBytes} bytes.`, { members: { maxBytes } })
    }
    hash.update(chunk)
    yield chunk
  }
}
