import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { Amount, Call, MoveOptions } from '../backend.ts'
import { AlreadyExists, InvalidOperation, IsADirectory, NotFound, SourceChanged, Unavailable } from '../errors.ts'
import type { Bucket, StoredObject } from './bucket.ts'
import { copyObject } from './copy.ts'
import { directoryExists, keepParent, placeOf, refuseFilesOnTheWay } from './directories.ts'
import { eachInOrder } from './each.ts'
import { isCurrent, pairs } from './pairs.ts'
import type { Store } from './store.ts'
import type { Target } from './write.ts'

// S3 has no rename: a move is a copy and then a deletion. What is under way is written down in a journal, so that the
// same call, or the cleanup, goes on with a move whose process died, and does not take its own copies for somebody
// else's files.

const copiesAtOnce = 32
/** How often a file that changes while it is moved is copied again. */
const attempts = 3
/** How often the journal of a long move is touched, so that the cleanup sees that somebody is at work. */
const touchMilliseconds = 30_000

const Place = Type.Object({ folder: Type.String(), path: Type.String() })
const Journal = Type.Object({
  from: Place,
  to: Place,
  directory: Type.Boolean(),
  replaced: Type.Object({ files: Type.Integer(), bytes: Type.Integer() }),
})
type Journal = typeof Journal.static

export async function moveEntry(store: Store, from: Target, to: Target, options: MoveOptions): Promise<Amount> {
  const { signal } = options
  if (from.folder === to.folder && `${to.path}/`.startsWith(`${from.path}/`)) {
    throw new InvalidOperation(`${from.path} cannot move into itself`)
  }
  const journalKey = store.keys.move(from.folder, from.path, to.folder, to.path)
  const journal = (await readJournal(store.bucket, journalKey, { signal })) ?? (await begin(store, from, to, options))
  await writeJournal(store.bucket, journalKey, journal, { signal })
  await carryOut(store, journalKey, journal, { signal })
  return journal.replaced
}

/** Goes on with a move that was found in its journal. */
export async function resumeMove(store: Store, journalKey: string, { signal }: Call): Promise<void> {
  const journal = await readJournal(store.bucket, journalKey, { signal })
  if (journal !== undefined) await carryOut(store, journalKey, journal, { signal })
}

/** Finds out whether the move can be, before anything is changed. */
async function begin(store: Store, from: Target, to: Target, { overwrite, signal }: MoveOptions): Promise<Journal> {
  const { bucket, keys } = store
  const fromKey = keys.entry(from.folder, from.path)
  const file = await bucket.head(fromKey, { signal })
  const directory = file === undefined
  if (directory && !(await directoryExists(store, fromKey, { signal }))) {
    throw new NotFound(`${from.path} does not exist`)
  }
  const replaced = await placeFor(store, to, { directory, overwrite: overwrite ?? false, signal })
  return { from, to, directory, replaced }
}

async function placeFor(
  store: Store,
  { folder, path }: Target,
  { directory, overwrite, signal }: Call & { directory: boolean; overwrite: boolean },
): Promise<Amount> {
  if (overwrite && !directory) {
    const existing = await placeOf(store, folder, path, { signal })
    return existing === undefined ? { files: 0, bytes: 0 } : { files: 1, bytes: existing.size }
  }
  const existing = await placeOf(store, folder, path, { signal }).catch((error) => {
    if (error instanceof IsADirectory) throw new AlreadyExists(`${path} exists already`, { cause: error })
    throw error
  })
  if (existing !== undefined) throw new AlreadyExists(`${path} exists already`)
  await refuseFilesOnTheWay(store, folder, path, { signal })
  return { files: 0, bytes: 0 }
}

async function carryOut(store: Store, journalKey: string, journal: Journal, { signal }: Call): Promise<void> {
  const { bucket, keys } = store
  const { from, to, directory } = journal
  const fromKey = keys.entry(from.folder, from.path)
  const toKey = keys.entry(to.folder, to.path)
  let touchedAt = performance.now()
  const touch = async () => {
    if (performance.now() - touchedAt < touchMilliseconds) return
    touchedAt = performance.now()
    await writeJournal(bucket, journalKey, journal, { signal })
  }
  await keepParent(store, from.folder, from.path, { signal })
  if (directory) await moveTree(store, `${fromKey}/`, `${toKey}/`, touch, { signal })
  else await moveObject(store, fromKey, toKey, { signal })
  await bucket.delete(journalKey, { signal })
}

/** Deletes the object only as it was copied; what was written to it meanwhile is copied as well. */
async function moveObject(store: Store, from: string, to: string, { signal }: Call): Promise<void> {
  let source = await store.bucket.head(from, { signal })
  for (let attempt = 0; attempt < attempts && source !== undefined; attempt++) {
    const copied = await copyObject(store, source, to, { signal })
    source = await store.bucket.head(from, { signal })
    if (source !== undefined && source.etag === copied?.etag) return store.bucket.delete(from, { signal })
  }
  if (source !== undefined) throw new SourceChanged('the file changed each time it was moved')
}

/** Copies all, and then deletes each object whose copy is as new as it is. */
async function moveTree(
  store: Store,
  from: string,
  to: string,
  touch: () => Promise<void>,
  { signal }: Call,
): Promise<void> {
  const { bucket } = store
  const copy = async (source: StoredObject, call: Call) => {
    await touch()
    await copyObject(store, source, to + source.key.slice(from.length), call)
  }
  await eachInOrder(bucket.objects({ prefix: from, signal }), copiesAtOnce, { signal }, copy, () => {})
  // What came after the first look is copied in the second.
  for (const last of [false, true]) {
    const left = await deleteCopied(store, from, to, copy, { signal })
    if (left === 0) return
    if (last) throw new Unavailable('entries were changed in a directory while it was moved')
  }
}

/** @returns how many objects had no copy, or one of another state; they are copied now, and not yet deleted */
async function deleteCopied(
  { bucket }: Store,
  from: string,
  to: string,
  copy: (source: StoredObject, call: Call) => Promise<void>,
  { signal }: Call,
): Promise<number> {
  let left = 0
  let batch: string[] = []
  for await (const pair of pairs(bucket, from, to, { signal })) {
    if (pair.source === undefined) continue
    if (isCurrent(pair.source, pair.copy)) batch.push(pair.source.key)
    else {
      left++
      await copy(pair.source, { signal })
    }
    if (batch.length < 1000) continue
    await bucket.deleteMany(batch, { signal })
    batch = []
  }
  await bucket.deleteMany(batch, { signal })
  return left
}

async function readJournal(bucket: Bucket, key: string, { signal }: Call): Promise<Journal | undefined> {
  const object = await bucket.head(key, { signal })
  if (object === undefined) return undefined
  const chunks: Buffer[] = []
  for await (const chunk of await bucket.get(object, { start: 0, end: object.size }, { signal })) chunks.push(chunk)
  const journal: unknown = JSON.parse(Buffer.concat(chunks).toString())
  return Value.Check(Journal, journal) ? journal : undefined
}

async function writeJournal(bucket: Bucket, key: string, journal: Journal, { signal }: Call): Promise<void> {
  await bucket.put(key, Buffer.from(JSON.stringify(journal)), { signal })
}
