import fs from 'node:fs'
import { basename, join } from 'node:path'
import type { Backend, Entry, ListOptions, OpenFile } from '../backend.ts'
import { IsADirectory, NotAFile } from '../errors.ts'
import { splitPath } from '../path.ts'
import { cloneFolder } from './clone.ts'
import { copyTree } from './copy-tree.ts'
import { countFolder } from './count.ts'
import { createDirectories, makeDirectoryInside, type Ownership, openDirectory } from './directory.ts'
import { type Attributes, etagOf, toEntry, withTarget } from './entry.ts'
import { translateErrors, translateErrorsOf } from './errno.ts'
import { access, close, closeNow, fstatOpened, lstat, statfs } from './files.ts'
import { createFolder, removeFolder } from './folders.ts'
import { collectGarbage } from './garbage.ts'
import { listFolders, readIdentity, writeIdentity } from './identity.ts'
import { hostPathOf, locationOf, openInside } from './inside.ts'
import type { Layout, Place } from './layout.ts'
import { listDirectory } from './list.ts'
import { readMany, type SmallFile } from './many/index.ts'
import { moveAcross } from './move-across.ts'
import type { Parts } from './parts.ts'
import { readChunks, smallFileBytes } from './read.ts'
import { removeEntry } from './remove.ts'
import { createSmallFileReader } from './small-files.ts'
import { createSmallFileWriter } from './small-writes/index.ts'
import { abortUpload, appendUpload, beginUpload, completeUpload, openUpload } from './upload.ts'
import { copyEntry, createSymlink, writeFile } from './write.ts'

/** @param parts what its storage does better */
export function createPosixBackend(layout: Layout, ownership: Ownership, parts: Parts = {}) {
  const { homes, quota, usage, usageDelaySeconds, clone } = parts
  // A path that comes here keeps the rules already, by its type. They are checked once more, as the last line of
  // defence: types do not hold back JavaScript, and a `..` would rename or remove what is above the vfolder.
  const place = (folder: string, path: string): Place => ({
    layout,
    ownership,
    root: layout.folder(folder),
    names: splitPath(path),
  })

  async function* listMany(folder: string, options: ListOptions): AsyncGenerator<Entry[]> {
    const { path = '' } = options
    const directory = await openDirectory(layout.folder(folder), path === '' ? [] : splitPath(path))
    try {
      yield* listDirectory(directory, path === '' ? '' : `${path}/`, { ...options, isNfs: layout.isNfs })
    } finally {
      directory.close()
    }
  }

  const readSmall = createSmallFileReader()
  const writeSmall = createSmallFileWriter()

  return {
    /** `off_t` has 63 bits; a number in JavaScript is exact up to 53. */
    limits: Object.freeze({
      maxFileBytes: Number.MAX_SAFE_INTEGER,
      ...(usageDelaySeconds !== undefined && { usageDelaySeconds }),
    }),

    createFolder: (folder, { mode = ownership.directoryMode, ...call }) =>
      createFolder(layout, folder, { ownership, mode, homes }, call),

    removeFolder: (folder, options) => removeFolder(layout, folder, homes, options),

    async stat(folder, path) {
      const { root, names } = place(folder, path)
      const parent = await openDirectory(root, names.slice(0, -1))
      try {
        const location = parent.at(names.at(-1) ?? '')
        const entry = toEntry(path, await translateErrors(path, () => lstat(location)))
        if (entry === undefined) throw new NotAFile(`${path} is a socket, a FIFO or a device`)
        return await translateErrors(path, () => withTarget(entry, location))
      } finally {
        parent.close()
      }
    },

    async *list(folder, options) {
      for await (const entries of listMany(folder, options)) {
        for (const entry of entries) {
          options.signal.throwIfAborted()
          yield entry
        }
      }
    },

    listMany,

    async read(folder, path) {
      const { root, names } = place(folder, path)
      const location = join(root, ...names)
      const small = await readSmall(location)
      if (small !== undefined) return toReadFile(small, path, location)
      const fd = await openInside(root, names)
      try {
        return { ...toOpenFile(fd, path, await statRegularFile(fd, path)), location: () => locationOf(fd, root) }
      } catch (error) {
        close(fd)
        throw error
      }
    },

    readMany: (folder, entries, call) => readMany(layout.folder(folder), entries, call),

    async write(folder, path, source, options) {
      await layout.prepare(folder)
      return writeFile(place(folder, path), source, options, writeSmall)
    },

    async beginUpload(folder, upload) {
      await layout.prepare(folder)
      return beginUpload(layout, folder, upload)
    },

    appendUpload: (folder, upload, source, options) => appendUpload(layout, folder, upload, source, options),

    async readUpload(folder, upload) {
      const fd = await openUpload(layout, folder, upload)
      return toOpenFile(fd, upload, await statRegularFile(fd, upload))
    },

    completeUpload: (folder, upload, path, options) => completeUpload(place(folder, path), folder, upload, options),

    abortUpload: (folder, upload) => abortUpload(layout, folder, upload),

    async copy(folder, from, to, options) {
      const { toFolder = folder } = options
      await layout.prepare(toFolder)
      return copyEntry(place(folder, from), place(toFolder, to), options)
    },

    async copyTree(folder, from, to, options) {
      const { toFolder = folder } = options
      await layout.prepare(toFolder)
      return copyTree(place(folder, from), place(toFolder, to), options)
    },

    clone: clone ?? ((from, to, options) => cloneFolder({ layout, ownership }, from, to, options)),

    count: (folder, call) => countFolder(layout, folder, call),

    ...(usage && { usage }),

    ...(quota && { quota }),

    async symlink(folder, path, target, options) {
      await layout.prepare(folder)
      return createSymlink(place(folder, path), target, options)
    },

    async mkdir(folder, path) {
      const { root, names } = place(folder, path)
      const parent = await createDirectories(root, names.slice(0, -1), ownership)
      try {
        await translateErrors(path, () => makeDirectoryInside(parent, names.at(-1) ?? '', ownership))
      } finally {
        parent.close()
      }
    },

    async move(folder, from, to, options) {
      const { toFolder = folder } = options
      if (toFolder !== folder) await layout.prepare(toFolder)
      return moveAcross(place(folder, from), place(toFolder, to), options)
    },

    async remove(folder, path, options) {
      await layout.prepare(folder)
      const { root, names } = place(folder, path)
      return removeEntry(layout, root, names, options)
    },

    collectGarbage: (options) => collectGarbage(layout, options),

    async health() {
      for (const place of new Set([layout.folders, ...layout.places])) {
        await translateErrorsOf(`the volume's directory ${basename(place)}`, () =>
          access(place, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK),
        )
      }
    },

    async capacity() {
      // Not the root, which is still there, on another disk, when the volume is unmounted.
      const place = layout.staging
      const { bsize, blocks, bavail } = await translateErrorsOf('the volume', () => statfs(place))
      return { totalBytes: bsize * blocks, availableBytes: bsize * bavail }
    },

    async mount(folder, path) {
      return { type: 'path', path: join(layout.folder(folder), ...(path === undefined ? [] : splitPath(path))) }
    },

    trash: (folder) => layout.trashOf(folder),

    readIdentity: () => readIdentity(layout),

    writeIdentity: (text) => writeIdentity(layout, text),

    listFolders: (options) => listFolders(layout, options),

    ...(layout.byScope && { folderOf: (id, quotaScope) => layout.folderOf(id, quotaScope) }),

    async close() {},
  } satisfies Backend
}

function toOpenFile(fd: number, path: string, entry: Entry): OpenFile {
  return {
    entry,
    chunks: ({ start, end }) => readChunks(fd, path, start, end),
    // The last close of a removed file frees its blocks, which takes a while for a large one.
    close: () => (entry.size <= smallFileBytes ? closeNow(fd) : close(fd)),
  }
}

/** A file that was opened, read and closed. */
function toReadFile({ attributes, content }: SmallFile, path: string, location: string) {
  const entry = toFileEntry(path, attributes)
  return {
    entry,
    ...(content.length === entry.size && { content }),
    async *chunks({ start, end }: { start: number; end: number }) {
      if (end > start) yield content.subarray(start, end)
    },
    async location() {
      const stats = await lstat(location).catch(() => undefined)
      return stats !== undefined && etagOf(stats) === etagOf(attributes) ? hostPathOf(location) : undefined
    },
    close() {},
  } satisfies OpenFile
}

async function statRegularFile(fd: number, path: string): Promise<Entry> {
  return toFileEntry(path, await fstatOpened(fd))
}

function toFileEntry(path: string, attributes: Attributes): Entry {
  const entry = toEntry(path, attributes)
  if (entry?.type === 'directory') throw new IsADirectory(`${path} is a directory`)
  if (entry?.type !== 'file') throw new NotAFile(`${path} is a socket, a FIFO or a device`)
  return entry
}
