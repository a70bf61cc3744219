import { randomUUID } from 'node:crypto'
import {
  AlreadyExists,
  type Amount,
  type Call,
  type CopyOptions,
  InvalidOperation,
  IsADirectory,
  type MoveOptions,
  NotEmpty,
  type RemoveOptions,
  type Written,
} from 'storage-proxy/backend'
import { amountOf, findEntry, getEntry, listEntries, makeDirectory, makeParents } from './entries.ts'
import { ifPresent, translated } from './errors.ts'
import { directoryKey, fileKey, staging } from './keys.ts'
import type { Store } from './store.ts'
import { replaceable } from './write.ts'

/** What S3 removes in one request. */
const batchKeys = 1000

const nothing: Amount = { files: 0, bytes: 0 }

export async function mkdir(store: Store, folder: string, path: string): Promise<void> {
  await store.alone(fileKey(folder, path), async () => {
    if ((await findEntry(store, folder, path)) !== undefined) throw new AlreadyExists(`${path} exists already`)
    await makeParents(store, folder, path)
    await makeDirectory(store, folder, path)
  })
}

/** A directory moves entry by entry. */
export async function move(
  store: Store,
  folder: string,
  from: string,
  to: string,
  { overwrite, toFolder = folder, signal }: MoveOptions,
): Promise<Amount> {
  if (folder === toFolder && `${to}/`.startsWith(`${from}/`)) {
    throw new InvalidOperation(`${from} cannot move into itself`)
  }
  return store.alone(fileKey(toFolder, to), async () => {
    const moved = await getEntry(store, folder, from)
    const old = await findEntry(store, toFolder, to)
    const replaces = overwrite && moved.type === 'file' && old?.type === 'file'
    if (old !== undefined && !replaces) throw new AlreadyExists(`${to} exists already`)
    await makeParents(store, toFolder, to)
    if (moved.type === 'file') {
      await moveFile(store, from, fileKey(folder, from), fileKey(toFolder, to))
      return amountOf(old)
    }
    await makeDirectory(store, toFolder, to)
    for await (const { path, type } of listEntries(store, folder, { path: from, recursive: true, signal })) {
      const target = to + path.slice(from.length)
      if (type === 'directory') await makeDirectory(store, toFolder, target)
      else await moveFile(store, path, fileKey(folder, path), fileKey(toFolder, target))
    }
    await removeTree(store, folder, from, { signal })
    return nothing
  })
}

async function moveFile({ operator, capability }: Store, path: string, from: string, to: string): Promise<void> {
  await translated(path, async () => {
    if (capability.rename) return operator.rename(from, to)
    await operator.copy(from, to)
    await operator.delete(from)
  })
}

export async function copy(
  store: Store,
  folder: string,
  from: string,
  to: string,
  { ifAbsent, toFolder = folder, signal }: CopyOptions,
): Promise<Written> {
  const source = await getEntry(store, folder, from)
  if (source.type === 'directory') throw new IsADirectory(`${from} is a directory`)
  const target = fileKey(toFolder, to)
  return store.alone(target, async () => {
    const replaced = await replaceable(store, toFolder, to, { ifAbsent })
    signal.throwIfAborted()
    await makeParents(store, toFolder, to)
    await translated(to, () => copyObject(store, fileKey(folder, from), target))
    return { entry: await getEntry(store, toFolder, to), ...(replaced !== undefined && { replaced }) }
  })
}

/** fs copies into the file itself, where a part of it would be seen. */
async function copyObject({ operator, publication }: Store, from: string, to: string): Promise<void> {
  if (publication !== 'rename') return operator.copy(from, to)
  const staged = staging + randomUUID()
  try {
    await operator.copy(from, staged)
    await operator.rename(staged, to)
  } catch (error) {
    await operator.delete(staged)
    throw error
  }
}

export async function remove(
  store: Store,
  folder: string,
  path: string,
  { recursive, signal, onProgress }: RemoveOptions,
): Promise<Amount> {
  const entry = await getEntry(store, folder, path)
  if (entry.type === 'directory') {
    if (!recursive && (await hasEntries(store, folder, path, signal))) throw new NotEmpty(`${path} is not empty`)
    return removeTree(store, folder, path, { signal, onProgress })
  }
  await translated(path, () => store.operator.delete(fileKey(folder, path)))
  return amountOf(entry)
}

async function hasEntries(store: Store, folder: string, path: string, signal: AbortSignal): Promise<boolean> {
  for await (const _ of listEntries(store, folder, { path, signal })) return true
  return false
}

/** Removes a directory, or without a path the vfolder, its files first and then the directories, the deepest first. */
export async function removeTree(
  store: Store,
  folder: string,
  path: string | undefined,
  { signal, onProgress = () => {} }: Pick<RemoveOptions, 'signal' | 'onProgress'>,
): Promise<Amount> {
  const { operator } = store
  const removed = { ...nothing }
  const directories = [directoryKey(folder, path)]
  const remove = async (keys: string[]) => {
    await translated(path ?? 'the vfolder', () => operator.remove(keys))
    onProgress({ ...removed })
  }
  let files: string[] = []
  for await (const entry of listEntries(store, folder, { path, recursive: true, signal })) {
    if (entry.type === 'directory') {
      directories.push(directoryKey(folder, entry.path))
      continue
    }
    files.push(fileKey(folder, entry.path))
    removed.files++
    removed.bytes += entry.size
    if (files.length < batchKeys) continue
    await remove(files)
    files = []
  }
  if (files.length > 0) await remove(files)
  for (const key of directories.reverse()) await translated(path ?? 'the vfolder', () => operator.delete(key))
  return removed
}

/** Only a service with a staging place has leftovers that can be seen. */
export async function collectGarbage(
  { operator }: Store,
  { idleSeconds, signal }: Call & { idleSeconds: number },
): Promise<Amount> {
  const removed = { ...nothing }
  const oldest = Date.now() - idleSeconds * 1000
  await translated('the staging place', async () => {
    for (const staged of (await ifPresent(operator.list(staging))) ?? []) {
      signal.throwIfAborted()
      const metadata = staged.path() === staging ? undefined : await ifPresent(operator.stat(staged.path()))
      if (metadata === undefined || Date.parse(metadata.lastModified ?? '') > oldest) continue
      await operator.delete(staged.path())
      removed.files++
      removed.bytes += Number(metadata.contentLength ?? 0)
    }
  })
  return removed
}
