import type { Call, CopyOptions, Written } from '../backend.ts'
import { AlreadyExists, IsADirectory, NotFound, PreconditionFailed, SourceChanged } from '../errors.ts'
import type { StoredObject } from './bucket.ts'
import { eachInOrder } from './each.ts'
import { directoryExists, placeOf } from './entry.ts'
import { locked } from './lock.ts'
import { Multipart, maxParts } from './multipart.ts'
import { described, type Target } from './publish.ts'
import type { Store } from './store.ts'

/** How often an object that changes while it is copied is copied again. */
const attempts = 3
/** Parts of one object under way at once. */
const partsAtOnce = 8

/** Copies inside the server; whether something stands there is looked at right before, by one copy at a time. */
export async function copyEntry(store: Store, from: Target, to: Target, options: CopyOptions): Promise<Written> {
  const copy = () =>
    store.turns.run(store.keys.entry(to.folder, to.path), options, () => copyFile(store, from, to, options))
  return options.ifAbsent ? locked(store, store.keys.lock(to.folder, to.path), options, copy) : copy()
}

async function copyFile(store: Store, from: Target, to: Target, options: CopyOptions): Promise<Written> {
  const { bucket, keys } = store
  const { signal, ifAbsent } = options
  const fromKey = keys.entry(from.folder, from.path)
  const toKey = keys.entry(to.folder, to.path)
  const [source, existing] = await Promise.all([
    bucket.head(fromKey, { signal }),
    placeOf(store, to.folder, to.path, { signal }),
  ])
  if (source === undefined) {
    if (await directoryExists(store, fromKey, { signal })) throw new IsADirectory(`${from.path} is a directory`)
    throw new NotFound(`${from.path} does not exist`)
  }
  if (ifAbsent && existing !== undefined) throw new AlreadyExists(`${to.path} exists already`)
  const copied = await copyObject(store, source, toKey, { signal })
  if (copied === undefined) throw new NotFound(`${from.path} does not exist`)
  return described(store, toKey, to.path, { bytes: copied.size, replaced: existing?.size, signal })
}

/**
 * Copies an object as it is at one moment, which may be a later one than it was looked at.
 * @returns what was copied; undefined when it is gone
 * @throws {SourceChanged} when it changed each time
 */
export async function copyObject(
  store: Store,
  source: StoredObject,
  to: string,
  call: Call,
): Promise<StoredObject | undefined> {
  const { bucket } = store
  let current: StoredObject | undefined = source
  for (let attempt = 0; attempt < attempts && current !== undefined; attempt++) {
    try {
      // Same key, same bytes; and a copy of an object onto itself is refused.
      if (current.key === to) return current
      if (current.size <= store.copyPartBytes) {
        const etag = await bucket.copy(current, to, call)
        if (etag === current.etag) return current
      } else {
        await copyByParts(store, current, to, call)
      }
    } catch (error) {
      if (!(error instanceof PreconditionFailed || error instanceof NotFound)) throw error
    }
    // Not all servers keep the condition on the source (Ceph 16 does not), and not all keep its etag.
    const after = await bucket.head(current.key, call)
    if (after?.etag === current.etag && (await bucket.head(to, call))?.size === current.size) return current
    current = after
  }
  if (current === undefined) return undefined
  throw new SourceChanged('the file changed each time it was copied')
}

/** A copy by parts has only what it is given of the source's metadata. */
async function copyByParts(store: Store, source: StoredObject, to: string, { signal }: Call): Promise<void> {
  const partBytes = Math.max(store.copyPartBytes, Math.ceil(source.size / maxParts))
  const parts = Array.from({ length: Math.ceil(source.size / partBytes) }, (_, index) => ({
    object: source,
    start: index * partBytes,
    end: Math.min((index + 1) * partBytes, source.size),
  }))
  const described = await store.bucket.head(source.key, { signal })
  if (described === undefined) return
  const { metadata, headers } = described
  const upload = await Multipart.begin(store, to, { signal, metadata, headers })
  try {
    await copyParts(upload, parts, { signal })
    await upload.complete({ signal })
  } catch (error) {
    await upload.abort().catch(() => {})
    throw error
  }
}

export interface PartSource {
  object: Pick<StoredObject, 'key' | 'etag'>
  start: number
  end: number
}

/** Makes the parts of an upload from objects' bytes, several at once. */
export async function copyParts(upload: Multipart, parts: PartSource[], call: Call): Promise<void> {
  await eachInOrder(
    () => parts.entries(),
    partsAtOnce,
    call,
    ([index, { object, start, end }], { signal }) => upload.copy(index + 1, object, { start, end, signal }),
  )
}
