import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { workAhead } from '../backends/ahead.ts'
import type { Call, Cloned, CloneOptions, Entry } from '../backends/backend.ts'
import { AlreadyExists } from '../backends/errors.ts'
import { compareBytes, orderKey } from '../backends/order.ts'
import { type EntryPath, parsePath } from '../backends/path.ts'
import type { Volume } from '../plugins/storage/volumes.ts'

/** A vfolder, or one directory in it. */
export interface Tree {
  volume: Volume
  folder: string
  path?: EntryPath
}

export interface CopyEntriesOptions extends CloneOptions {
  /** How many files are copied at once. */
  atOnce: number
  /** Copies a file or a symlink. @returns it as it was copied; undefined when it was gone before that */
  copy(entry: Entry, from: EntryPath, to: EntryPath, call: Call): Promise<Entry | undefined>
}

const reportedPaths = 100

const Checkpoint = Type.Object({ after: Type.String(), files: Type.Integer(), bytes: Type.Integer() })
const isCheckpoint = TypeCompiler.Compile(Checkpoint)

/**
 * Copies all entries of one tree to another, which nobody else writes to: several files at once, begun in the order of
 * the listing and taken as done in that order, so that one position says where to go on.
 */
export async function copyEntries(from: Tree, to: Tree, options: CopyEntriesOptions): Promise<Cloned> {
  const { signal, checkpoint, onProgress, onCheckpoint, atOnce, copy } = options
  const done = isCheckpoint.Check(checkpoint) ? { ...checkpoint } : { after: '', files: 0, bytes: 0 }
  const changed: string[] = []
  let changedCount = 0
  const tellChanged = (path: string) => {
    changedCount++
    if (changed.length < reportedPaths) changed.push(path)
  }

  const copyOne = async (entry: Entry, call: Call): Promise<Entry | undefined> => {
    const target = parsePath(keyIn(to, inside(from, entry.path)))
    if (entry.type !== 'directory') return copy(entry, parsePath(entry.path), target, call)
    await makeDirectory(to, target, call)
    return entry
  }
  if (to.path !== undefined) await makeDirectory(to, to.path, { signal })
  const listing = done.after === '' ? { signal } : { signal, after: done.after }
  for await (const { item, result: entry } of workAhead(list(from, listing), { ahead: atOnce - 1, signal }, copyOne)) {
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

function list({ volume, folder, path }: Tree, options: Call & { after?: string }): AsyncIterable<Entry> {
  return volume.backend.list(folder, { ...options, recursive: true, ...(path !== undefined && { path }) })
}

/** The part of a path, or of a place in a listing, that is inside of a tree. */
function inside({ path }: Tree, key: string): string {
  return path === undefined ? key : key.slice(path.length + 1)
}

function keyIn({ path }: Tree, inside: string): string {
  return path === undefined ? inside : `${path}/${inside}`
}

/** An earlier attempt may have made it. */
async function makeDirectory({ volume, folder }: Tree, path: EntryPath, call: Call): Promise<void> {
  await volume.backend.mkdir(folder, path, call).catch((error) => {
    if (!(error instanceof AlreadyExists)) throw error
  })
}

/** Yields the entries that came, went or were written to after they were copied, by both listings side by side. */
async function* findDifferences(from: Tree, to: Tree, signal: AbortSignal): AsyncGenerator<string> {
  const copies = list(to, { signal })[Symbol.asyncIterator]()
  const sourceKey = (copy: Entry) => keyIn(from, inside(to, orderKey(copy)))
  try {
    let copy = await copies.next()
    for await (const entry of list(from, { signal })) {
      const key = orderKey(entry)
      while (!copy.done && compareBytes(sourceKey(copy.value), key) < 0) {
        yield sourceKey(copy.value)
        copy = await copies.next()
      }
      const isThere = !copy.done && sourceKey(copy.value) === key
      if (!isThere || differ(entry, copy.value)) yield key
      if (isThere) copy = await copies.next()
    }
    for (; !copy.done; copy = await copies.next()) yield sourceKey(copy.value)
  } finally {
    await copies.return?.()
  }
}

/** A storage that does not keep modification times gives a copy the time at which it was made. */
function differ(source: Entry, copy: Entry): boolean {
  if (source.type !== 'file') return source.target !== copy.target
  return source.size !== copy.size || source.modifiedAt > copy.modifiedAt
}
