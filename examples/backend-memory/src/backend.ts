import {
  AlreadyExists,
  type Backend,
  compareBytes,
  InvalidOperation,
  IsADirectory,
  NotADirectory,
  NotEmpty,
  NotFound,
  type OpenFile,
  orderKey,
  SizeMismatch,
  UploadNotFound,
  type WriteOptions,
} from 'storage-proxy/backend'
import { Tree, toEntry } from './tree.ts'

/** What outlives a backend; a disk or a bucket in other ones. */
export interface Storage {
  folders: Map<string, Tree>
  uploads: Map<string, Buffer>
}

export function createMemoryBackend({ folders, uploads }: Storage, maxFileBytes: number): Backend {
  const tree = (folder: string): Tree => {
    const found = folders.get(folder)
    if (found === undefined) throw new NotFound('the vfolder does not exist')
    return found
  }

  const uploaded = (upload: string): Buffer => {
    const bytes = uploads.get(upload)
    if (bytes === undefined) throw new UploadNotFound(`there is no upload ${upload}`)
    return bytes
  }

  return {
    limits: Object.freeze({ maxFileBytes }),

    async createFolder(folder) {
      if (!folders.has(folder)) folders.set(folder, new Tree())
    },

    async removeFolder(folder) {
      folders.delete(folder)
      folders.delete(trashOf(folder))
    },

    async stat(folder, path) {
      return toEntry(path, tree(folder).find(path))
    },

    async *list(folder, { path, recursive, after, signal }) {
      if (path !== undefined && tree(folder).find(path).type === 'file') {
        throw new NotADirectory(`${path} is not a directory`)
      }
      const depth = path === undefined ? 1 : path.split('/').length + 1
      const entries = tree(folder)
        .entries(path)
        .filter((entry) => recursive || entry.path.split('/').length === depth)
        .filter((entry) => after === undefined || compareBytes(orderKey(entry), after) > 0)
        .sort((a, b) => compareBytes(orderKey(a), orderKey(b)))
      for (const entry of entries) {
        signal.throwIfAborted()
        yield entry
      }
    },

    async read(folder, path) {
      const node = tree(folder).find(path)
      if (node.type === 'directory') throw new IsADirectory(`${path} is a directory`)
      return openFile(path, node)
    },

    async write(folder, path, source, options) {
      const bytes = await gather(source, options)
      return tree(folder).put(path, bytes, options)
    },

    async beginUpload(_folder, upload) {
      if (!uploads.has(upload)) uploads.set(upload, Buffer.of())
    },

    async appendUpload(_folder, upload, source, { offset, signal }) {
      const before = uploaded(upload).subarray(0, offset)
      const bytes = Buffer.concat([before, await gather(source, { signal })])
      uploads.set(upload, bytes)
      return bytes.length
    },

    async readUpload(_folder, upload) {
      return openFile(upload, { type: 'file', bytes: uploaded(upload), modifiedAt: new Date(), etag: upload })
    },

    async completeUpload(folder, upload, path, { size, ifAbsent, signal }) {
      signal.throwIfAborted()
      const written = tree(folder).put(path, uploaded(upload).subarray(0, size), { ifAbsent })
      uploads.delete(upload)
      return written
    },

    async abortUpload(_folder, upload) {
      uploads.delete(upload)
    },

    async mkdir(folder, path) {
      tree(folder).makeDirectory(path)
    },

    async move(folder, from, to, { overwrite, toFolder = folder }) {
      const source = tree(folder)
      const target = tree(toFolder)
      const moved = source.find(from)
      if (source === target && `${to}/`.startsWith(`${from}/`)) {
        throw new InvalidOperation(`${from} cannot move into itself`)
      }
      const old = target.peek(to)
      const replaceable = overwrite && moved.type === 'file' && old?.type === 'file'
      if (old !== undefined && !replaceable) throw new AlreadyExists(`${to} exists already`)
      // First what can fail: between taking the entry out and putting it back it is nowhere.
      target.makeParents(to)
      target.place(to, source.take(from))
      return old?.type === 'file' ? { files: 1, bytes: old.bytes.length } : { files: 0, bytes: 0 }
    },

    async remove(folder, path, { recursive }) {
      const node = tree(folder).find(path)
      const removed = node.type === 'file' ? { files: 1, bytes: node.bytes.length } : tree(folder).amount(path)
      if (!recursive && tree(folder).entries(path).length > 0) throw new NotEmpty(`${path} is not empty`)
      tree(folder).take(path)
      return removed
    },

    /** A write that fails leaves nothing here. */
    async collectGarbage() {
      return { files: 0, bytes: 0 }
    },

    async health() {},

    async close() {},

    /** A capability: without this member the service answers that the volume cannot copy. */
    async copy(folder, from, to, { ifAbsent, toFolder = folder, signal }) {
      signal.throwIfAborted()
      const node = tree(folder).find(from)
      if (node.type === 'directory') throw new IsADirectory(`${from} is a directory`)
      return tree(toFolder).put(to, node.bytes, { ifAbsent })
    },

    async count(folder, { signal }) {
      signal.throwIfAborted()
      return tree(folder).amount()
    },

    trash: trashOf,
  }
}

/** A tree of its own, beside that of the vfolder; no ID of a vfolder has a dot. */
function trashOf(folder: string): string {
  return `${folder}.trash`
}

async function gather(
  source: AsyncIterable<Buffer>,
  { size, signal }: Pick<WriteOptions, 'size' | 'signal'>,
): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of source) {
    signal.throwIfAborted()
    bytes += chunk.length
    if (size !== undefined && bytes > size) throw new SizeMismatch(`more than ${size} bytes came`)
    // Its memory is used again.
    chunks.push(Buffer.from(chunk))
  }
  signal.throwIfAborted()
  if (size !== undefined && bytes < size) throw new SizeMismatch(`${bytes} bytes came instead of ${size}`)
  return Buffer.concat(chunks)
}

function openFile(path: string, node: Parameters<typeof toEntry>[1] & { bytes: Buffer }): OpenFile {
  return {
    entry: toEntry(path, node),
    async *chunks({ start, end }) {
      if (end > start) yield node.bytes.subarray(start, end)
    },
    close() {},
  }
}
