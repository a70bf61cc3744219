import { setTimeout as sleep } from 'node:timers/promises'
import { add } from '../amount.ts'
import type { Amount, Call, MoveOptions } from '../backend.ts'
import { AlreadyExists, InvalidOperation, InvalidPath, IsADirectory, NotFound, SourceChanged } from '../errors.ts'
import { deletesAtOnce, type StoredObject } from './bucket.ts'
import { copyObject } from './copy.ts'
import { eachInOrder } from './each.ts'
import { directoryExists, keepParent, placeOf, putMarker } from './entry.ts'
import { maxKeyBytes } from './layout.ts'
import { isCurrent, pairs } from './list.ts'
import { giveBack, locked } from './lock.ts'
import { isReplaced, type Journal, OpenJournal, unfinishedMove } from './move-journal.ts'
import type { Target } from './publish.ts'
import { unbroken } from './remove.ts'
import type { Store } from './store.ts'

// S3 has no rename: a move is a copy and then a deletion, with a journal. docs/s3-moves.md has the steps, and what a
// crash between any two of them leaves.

const copiesAtOnce = 32
/** How often a file that changes while it is moved is copied again. */
const attempts = 3
/** How often a directory is looked through for what is not copied as it is now. */
const looks = 3
/** A copy that is made after so long is younger than its source also by the whole seconds of Amazon S3. */
const secondMilliseconds = 1100

type Moving = Call & Pick<MoveOptions, 'onProgress'>

/** Of several moves to one name that begin at once, one has it; of several from one name one finds it still there. */
export async function moveEntry(store: Store, from: Target, to: Target, options: MoveOptions): Promise<Amount> {
  if (from.folder === to.folder && `${to.path}/`.startsWith(`${from.path}/`)) {
    throw new InvalidOperation(`${from.path} cannot move into itself`)
  }
  const journalKey = store.keys.move(from.folder, from.path, to.folder, to.path)
  return store.turns.run(journalKey, options, async () => {
    const unfinished = await unfinishedMove(store, journalKey, options)
    if (unfinished === undefined) return move(store, journalKey, from, to, options)
    options.onResume?.()
    await finish(store, journalKey, unfinished, options)
    return unfinished.replaced
  })
}

async function move(store: Store, journalKey: string, from: Target, to: Target, options: MoveOptions): Promise<Amount> {
  const { keys } = store
  const { signal, onProgress } = options
  return locked(store, sourceLock(store, from), { signal }, async (lock) => {
    const open = new OpenJournal(store, journalKey)
    try {
      let copied: StoredObject | undefined
      const journal = await locked(store, keys.lock(to.folder, to.path), { signal }, async () => {
        const begun = { ...(await begin(store, from, to, options)), lock }
        await open.write(begun, { signal })
        copied = await takePlace(store, begun, { signal })
        return begun
      })
      await carryOut(store, journal, copied, { signal, onProgress })
      await open.forget({ signal })
      return journal.replaced
    } finally {
      await open.leave()
    }
  })
}

/** Goes on with a move that was found in its journal. */
export async function resumeMove(store: Store, journalKey: string, { signal }: Call): Promise<void> {
  await store.turns.run(journalKey, { signal }, async () => {
    const journal = await unfinishedMove(store, journalKey, { signal })
    if (journal !== undefined) await finish(store, journalKey, journal, { signal })
  })
}

/** Whoever left the move left its lock as well, if it died: nothing is there any more that it could keep from others. */
async function finish(store: Store, journalKey: string, journal: Journal, call: Moving): Promise<void> {
  const { from, lock } = journal
  const open = new OpenJournal(store, journalKey)
  try {
    await open.write(journal, call)
    await carryOut(store, journal, undefined, call)
    await open.forget(call)
  } finally {
    await open.leave()
  }
  if (lock !== undefined) await giveBack(store.bucket, sourceLock(store, from), lock, call)
}

function sourceLock({ keys }: Store, { folder, path }: Target): string {
  return keys.lock('from', folder, path)
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
  if (directory) await refuseLongKeys(store, fromKey, keys.entry(to.folder, to.path), to.path, { signal })
  const existing = await placeOf(store, to.folder, to.path, { signal }).catch((error) => {
    if (!(error instanceof IsADirectory) || (overwrite && !directory)) throw error
    throw new AlreadyExists(`${to.path} exists already`, { cause: error })
  })
  if (existing === undefined) return { from, to, directory, replaced: { files: 0, bytes: 0 } }
  if (directory || !overwrite) throw new AlreadyExists(`${to.path} exists already`)
  return { from, to, directory, replaced: { files: 1, bytes: existing.size }, replacedEtag: existing.etag }
}

/** A key that is too long would stop the move half way, for ever. @throws {InvalidPath} */
async function refuseLongKeys({ bucket }: Store, from: string, to: string, path: string, call: Call): Promise<void> {
  const longer = Buffer.byteLength(to) - Buffer.byteLength(from)
  if (longer <= 0) return
  for await (const { key } of bucket.objects({ prefix: `${from}/`, ...call })) {
    if (Buffer.byteLength(key.replace(/\/$/, '')) + longer < maxKeyBytes) continue
    throw new InvalidPath(`${path}${key.slice(from.length)} is too long for this volume`)
  }
}

/** Makes the new name appear: a file as a whole, of a directory its marker. */
async function takePlace(store: Store, journal: Journal, call: Call): Promise<StoredObject | undefined> {
  const { keys } = store
  const { from, to, directory } = journal
  const toKey = keys.entry(to.folder, to.path)
  if (!directory) return copyUnlessDone(store, journal, keys.entry(from.folder, from.path), toKey, call)
  await putMarker(store, `${toKey}/`, call)
  return undefined
}

/** @param copied the file as it has taken its place, unless an earlier call has done that */
async function carryOut(store: Store, journal: Journal, copied: StoredObject | undefined, call: Moving): Promise<void> {
  const { keys } = store
  const { from, to, directory } = journal
  const fromKey = keys.entry(from.folder, from.path)
  const toKey = keys.entry(to.folder, to.path)
  await keepParent(store, from.folder, from.path, call)
  if (directory) {
    await moveTree(store, `${fromKey}/`, `${toKey}/`, call)
  } else {
    await moveFile(store, copied ?? (await copyUnlessDone(store, journal, fromKey, toKey, call)), toKey, call)
  }
}

/** Deletes the file only as it was copied; what was written to it meanwhile is copied as well. */
async function moveFile(store: Store, copied: StoredObject | undefined, to: string, call: Call): Promise<void> {
  let current = copied
  for (let attempt = 0; attempt < attempts && current !== undefined; attempt++) {
    const source = await store.bucket.head(current.key, call)
    if (source === undefined) return
    if (source.etag === current.etag) return store.bucket.delete(source.key, call)
    current = await copyObject(store, source, to, call)
  }
  if (current !== undefined) throw new SourceChanged('the file changed each time it was moved')
}

/** @returns the file of which there is a copy; undefined when it is gone */
async function copyUnlessDone(
  store: Store,
  journal: Journal,
  from: string,
  to: string,
  call: Call,
): Promise<StoredObject | undefined> {
  const { bucket } = store
  const [source, target] = await Promise.all([bucket.head(from, call), bucket.head(to, call)])
  if (source === undefined) return undefined
  if (target !== undefined && !isReplaced(journal, target) && isCurrent(source, target)) return source
  return copyObject(store, source, to, call)
}

type Copy = (source: StoredObject, call: Call) => Promise<void>

/** Copies all, and then deletes each object whose copy is there. */
async function moveTree(store: Store, from: string, to: string, call: Moving): Promise<void> {
  const gone = { files: 0, bytes: 0 }
  const onGone = (objects: StoredObject[]) => {
    for (const { key, size } of objects) if (!key.endsWith('/')) add(gone, { files: 1, bytes: size })
    call.onProgress?.({ ...gone })
  }
  const copy: Copy = async (source, call) => {
    await copyObject(store, source, to + source.key.slice(from.length), call)
  }
  await eachInOrder((call) => uncopied(store, from, to, call), copiesAtOnce, call, copy)
  // What came after the first look is copied in the next.
  for (let look = 1; (await deleteCopied(store, from, to, copy, onGone, call)) > 0; look++) {
    if (look === looks) throw new SourceChanged('entries were changed in a directory each time it was moved')
    await sleep(secondMilliseconds, undefined, call)
  }
}

async function* uncopied({ bucket }: Store, from: string, to: string, call: Call): AsyncGenerator<StoredObject> {
  for await (const pair of pairs(bucket, from, to, call)) {
    if (pair.source !== undefined && !isCopied(pair.source, pair.copy)) yield pair.source
  }
}

/**
 * The new name was nobody's before, so what is younger there is a copy, or what somebody wrote in its place. What is of
 * the same time may have been copied before the source was replaced: Amazon S3 tells whole seconds.
 */
function isCopied(source: StoredObject, copy: StoredObject | undefined): boolean {
  return copy !== undefined && (copy.etag === source.etag || source.modifiedAt < copy.modifiedAt)
}

/** @returns how many objects had no copy, or one of an older state; they are copied now, and not yet deleted */
async function deleteCopied(
  { bucket }: Store,
  from: string,
  to: string,
  copy: Copy,
  onGone: (objects: StoredObject[]) => void,
  { signal }: Call,
): Promise<number> {
  let left = 0
  let batch: StoredObject[] = []
  const deleteBatch = async () => {
    signal.throwIfAborted()
    await bucket.deleteMany(
      batch.map(({ key }) => key),
      unbroken(),
    )
    onGone(batch)
    batch = []
  }
  for await (const { source, copy: copied } of pairs(bucket, from, to, { signal })) {
    if (source === undefined) continue
    if (isCopied(source, copied)) batch.push(source)
    else {
      left++
      await copy(source, { signal })
    }
    if (batch.length === deletesAtOnce) await deleteBatch()
  }
  await deleteBatch()
  return left
}
