import type { Amount, Call, Written } from '../backend.ts'
import { AlreadyExists, afterChange, PreconditionFailed, Unavailable, Unconfirmed, UploadNotFound } from '../errors.ts'
import type { Condition } from './bucket.ts'
import { fileEntry, placeOf } from './entry.ts'
import { attemptsOf } from './errors.ts'
import { isOf, writeMetadata } from './layout.ts'
import { locked } from './lock.ts'
import type { Multipart } from './multipart.ts'
import type { Store } from './store.ts'

/** How long the storage may take to tell what became of a command that failed. */
const askMilliseconds = 5000

/** Where a file is to appear. */
export interface Target {
  folder: string
  path: string
}

/** How a file appears, of so many bytes, under what the server keeps of a condition. */
interface Appearance {
  bytes: number
  appear(condition: Condition, call: Call): Promise<unknown>
}

export function putting({ bucket, conditions }: Store, key: string, body: Buffer, id: string): Appearance {
  return {
    bytes: body.length,
    async appear(condition, { signal }) {
      const kept = await conditions.forPut(condition, { signal })
      await bucket.put(key, body, { signal, metadata: writeMetadata(id), ...kept })
    },
  }
}

export function completing({ conditions }: Store, upload: Multipart, bytes: number): Appearance {
  return {
    bytes,
    async appear(condition, { signal }) {
      const kept = await conditions.forMultipart(condition, { signal })
      await upload.complete({ signal, ...kept })
    },
  }
}

function growthBy(bytes: number, replaced: number | undefined): Amount {
  return { bytes: bytes - (replaced ?? 0), files: replaced === undefined ? 1 : 0 }
}

/** Describes a file that has just appeared. @throws {Unconfirmed} */
export async function described(
  { bucket }: Store,
  key: string,
  path: string,
  { bytes, replaced, signal }: Call & { bytes: number; replaced: number | undefined },
): Promise<Written> {
  const stored = await afterChange(path, growthBy(bytes, replaced), () => bucket.head(key, { signal }))
  if (stored === undefined) throw new Unavailable(`${path} was removed while it was stored`)
  return { entry: fileEntry(path, stored), ...(replaced !== undefined && { replaced }) }
}

/**
 * Looks at what stands there and lets the file appear in its place.
 * @throws {AlreadyExists} @throws {PreconditionFailed} @throws {IsADirectory} @throws {NotADirectory}
 */
export async function publish(
  store: Store,
  target: Target,
  id: string,
  { signal, ifAbsent, ifMatch }: Call & Condition,
  appearance: Appearance,
): Promise<Written> {
  const condition = { ...(ifAbsent && { ifAbsent }), ...(ifMatch !== undefined && { ifMatch }) }
  const replace = () =>
    store.turns.run(store.keys.entry(target.folder, target.path), { signal }, () =>
      replaceIf(store, target, id, { signal, ...condition }, appearance),
    )
  const unconditional = !ifAbsent && ifMatch === undefined
  if (unconditional || (await store.conditions.areKept(condition, { signal }))) return replace()
  return locked(store, store.keys.lock(target.folder, target.path), { signal }, replace)
}

async function replaceIf(
  store: Store,
  { folder, path }: Target,
  id: string,
  { signal, ...condition }: Call & Condition,
  { bytes, appear }: Appearance,
): Promise<Written> {
  const { ifAbsent, ifMatch } = condition
  const existing = await placeOf(store, folder, path, { signal })
  if (ifAbsent && existing !== undefined) throw new AlreadyExists(`${path} exists already`)
  if (ifMatch !== undefined && existing?.etag !== ifMatch) {
    throw new PreconditionFailed('the file was changed meanwhile')
  }
  const key = store.keys.entry(folder, path)
  const replaced = existing?.size
  try {
    await appear(condition, { signal })
  } catch (error) {
    if (!(await hadItsEffect(store, key, id, error, signal))) throw ifAbsent ? asExisting(error, path) : error
    if (signal.aborted) throw new Unconfirmed(path, growthBy(bytes, replaced), { cause: error })
  }
  return described(store, key, path, { bytes, replaced, signal })
}

/** Whether the file appeared, though the command failed: an answer was lost, or nobody waited for it any more. */
async function hadItsEffect(
  { bucket }: Store,
  key: string,
  id: string,
  error: unknown,
  signal: AbortSignal,
): Promise<boolean> {
  if (signal.aborted || error instanceof Unavailable) {
    const found = await bucket.head(key, { signal: AbortSignal.timeout(askMilliseconds) }).catch(() => undefined)
    return isOf(found, id)
  }
  if (!(error instanceof PreconditionFailed || error instanceof UploadNotFound) || attemptsOf(error) === 1) return false
  return isOf(await bucket.head(key, { signal }), id)
}

function asExisting(error: unknown, path: string): unknown {
  if (!(error instanceof PreconditionFailed)) return error
  return new AlreadyExists(`${path} exists already`, { cause: error })
}
