import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { workAhead } from '../backends/ahead.ts'
import type { Call, Cloned, CloneOptions, Entry, OpenFile } from '../backends/backend.ts'
import { AlreadyExists, NotFound, SourceChanged } from '../backends/errors.ts'
import { compareBytes, orderKey } from '../backends/order.ts'
import { type EntryPath, parsePath } from '../backends/path.ts'
import { requireCapability, type Volume } from '../plugins/storage/volumes.ts'

export interface VolumeFolder {
  volume: Volume
  folder: string
}

const filesAtOnce = 8
const attemptsPerFile = 3
const reportedPaths = 100

const Checkpoint = Type.Object({ after: Type.String(), files: Type.Integer(), bytes: Type.Integer() })
const isCheckpoint = TypeCompiler.Compile(Checkpoint)

/**
 * Copies all entries of a vfolder to one on another volume, whose bytes pass through the service: several files at once,
 * begun in the order of the listing and taken as done in that order, so that one position says where to go on.
 */
export async function cloneByStreaming(from: VolumeFolder, to: VolumeFolder, options: CloneOptions): Promise<Cloned> {
  const { signal, checkpoint, onProgress, onCheckpoint } = options
  const done = isCheckpoint.Check(checkpoint) ? { ...checkpoint } : { after: '', files: 0, bytes: 0 }
  const changed: string[] = []
  let changedCount = 0
  const tellChanged = (path: string) => {
    changedCount++
    if (changed.length < reportedPaths) changed.push(path)
  }

  const listing = { recursive: true, signal, ...(done.after !== '' && { after: done.after }) }
  const copies = workAhead(
    from.volume.backend.list(from.folder, listing),
    { ahead: filesAtOnce - 1, signal },
    (entry, call) => copyEntry(from, to, entry, call),
  )
  for await (const { item, result: entry } of copies) {
    const key = orderKey(item)
    if (entry === undefined) {
      tellChanged(key)
    } else if (entry.type !== 'directory') {
      done.files++
      done.bytes += entry.type === 'file' ? entry.size : 0
    }
    done.after = key
    onProgress({ files: done.files, bytes: done.bytes })
    onCheckpoint({ ...done })
  }
  for await (const path of findDifferences(from, to, signal)) tellChanged(path)
  return { files: done.files, bytes: done.bytes, changed, changedCount }
}

/** Yields the entries that came, went or were written to after they were copied, by both listings side by side. */
async function* findDifferences(from: VolumeFolder, to: VolumeFolder, signal: AbortSignal): AsyncGenerator<string> {
  const all = { recursive: true, signal }
  const copies = to.volume.backend.list(to.folder, all)[Symbol.asyncIterator]()
  try {
    let copy = await copies.next()
    for await (const entry of from.volume.backend.list(from.folder, all)) {
      const key = orderKey(entry)
      while (!copy.done && compareBytes(orderKey(copy.value), key) < 0) {
        yield orderKey(copy.value)
        copy = await copies.next()
      }
      const isThere = !copy.done && orderKey(copy.value) === key
      if (!isThere || differ(entry, copy.value)) yield key
      if (isThere) copy = await copies.next()
    }
    for (; !copy.done; copy = await copies.next()) yield orderKey(copy.value)
  } finally {
    await copies.return?.()
  }
}

/** A storage that does not keep modification times gives a copy the time at which it was made. */
function differ(source: Entry, copy: Entry): boolean {
  if (source.type !== 'file') return source.target !== copy.target
  return source.size !== copy.size || source.modifiedAt > copy.modifiedAt
}

/** Gives the entry as it was copied; undefined when it was gone before that. */
async function copyEntry(
  from: VolumeFolder,
  to: VolumeFolder,
  entry: Entry,
  { signal }: Call,
): Promise<Entry | undefined> {
  const path = parsePath(entry.path)
  if (entry.type === 'directory') {
    await to.volume.backend.mkdir(to.folder, path, { signal }).catch((error) => {
      if (!(error instanceof AlreadyExists)) throw error
    })
    return entry
  }
  if (entry.type === 'symlink') {
    await requireCapability(to.volume, 'symlink').symlink(to.folder, path, entry.target ?? '', { signal })
    return entry
  }
  if (await isThere(to, path, entry, signal)) return entry
  for (let attempt = 0; attempt < attemptsPerFile; attempt++) {
    const file = await from.volume.backend.read(from.folder, path, { signal }).catch((error) => {
      if (!(error instanceof NotFound)) throw error
    })
    if (file === undefined) return undefined
    if (await copyFile(from, to, path, file, signal)) return file.entry
  }
  throw new SourceChanged(`${path} changed each time it was copied`)
}

/** Whether an earlier attempt stored the file after its last checkpoint; a file is stored whole or not at all. */
async function isThere(
  { volume, folder }: VolumeFolder,
  path: EntryPath,
  source: Entry,
  signal: AbortSignal,
): Promise<boolean> {
  const entry = await volume.backend.stat(folder, path, { signal }).catch((error) => {
    if (!(error instanceof NotFound)) throw error
  })
  return (
    entry?.type === 'file' &&
    entry.size === source.size &&
    entry.modifiedAt.getTime() === source.modifiedAt.getTime() &&
    entry.mode === source.mode
  )
}

/** Whether the file was copied, and was the same at the end as at the start. */
async function copyFile(
  from: VolumeFolder,
  to: VolumeFolder,
  path: EntryPath,
  file: OpenFile,
  signal: AbortSignal,
): Promise<boolean> {
  const { size, modifiedAt, mode, etag } = file.entry
  const options = { size, signal, modifiedAt, ...(mode !== undefined && { mode }) }
  const failure = await to.volume.backend.write(to.folder, path, file.chunks({ start: 0, end: size }), options).then(
    () => undefined,
    (error: unknown) => ({ error }),
  )
  file.close()
  signal.throwIfAborted()
  const after = await from.volume.backend.stat(from.folder, path, { signal }).catch((error) => {
    if (!(error instanceof NotFound)) throw error
  })
  // A copy that failed because the file changed is no failure of the storage.
  if (after !== undefined && (after.etag !== etag || after.size !== size)) return false
  if (failure === undefined) return true
  if (after === undefined) return false
  throw failure.error
}
