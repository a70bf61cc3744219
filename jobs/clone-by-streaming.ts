import type { Call, Cloned, CloneOptions, Entry, OpenFile } from '../backends/backend.ts'
import { NotFound, SourceChanged } from '../backends/errors.ts'
import type { EntryPath } from '../backends/path.ts'
import { requireCapability } from '../plugins/storage/volumes.ts'
import { copyEntries, type Tree } from './copy-entries.ts'

const filesAtOnce = 8
const attemptsPerFile = 3

/** Copies all entries of a vfolder to one on another volume, whose bytes pass through the service. */
export function cloneByStreaming(from: Tree, to: Tree, options: CloneOptions): Promise<Cloned> {
  return copyEntries(from, to, {
    ...options,
    atOnce: filesAtOnce,
    copy: (entry, path, _path, call) => copyEntry(from, to, path, entry, call),
  })
}

/** Gives the entry as it was copied; undefined when it was gone before that. */
async function copyEntry(
  from: Tree,
  to: Tree,
  path: EntryPath,
  entry: Entry,
  { signal }: Call,
): Promise<Entry | undefined> {
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
  { volume, folder }: Tree,
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
async function copyFile(from: Tree, to: Tree, path: EntryPath, file: OpenFile, signal: AbortSignal): Promise<boolean> {
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
