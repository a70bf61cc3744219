import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Call } from '../backend.ts'
import { Busy, PreconditionFailed } from '../errors.ts'
import type { Bucket, StoredObject } from './bucket.ts'
import { attemptsOf } from './errors.ts'
import { isOf, writeMetadata } from './layout.ts'
import { type Store, touchesPerIdle } from './store.ts'
import { keepTouching } from './touch.ts'

const pauseMilliseconds = 50
const patienceMilliseconds = 30_000
/** How often a lock is touched by its holder; most have done their work before. */
const touchMilliseconds = 15_000
/** After so long without it the holder is dead. */
const deadMilliseconds = 60_000

/** Nobody waits longer for a lock to be given back whose taking has failed. */
const giveBackMilliseconds = 5000

const nothing = Buffer.alloc(0)

/**
 * Runs `work` while nobody else, on any process, runs any under the same lock. It is an object that can be made once,
 * which takes a server that keeps `If-None-Match: *` for PutObject; with another one the work runs without. See
 * docs/s3-moves.md.
 * @param work is given the ID by which `giveBack` knows the lock
 */
export async function locked<T>(
  store: Store,
  key: string,
  { signal }: Call,
  work: (id: string) => Promise<T>,
): Promise<T> {
  const { bucket, conditions } = store
  const id = randomUUID()
  const { ifAbsent } = await conditions.forPut({ ifAbsent: true }, { signal })
  if (!ifAbsent) return work(id)
  await take(store, key, id, { signal })
  /** What was not touched for so long others may have removed. */
  const ownMilliseconds = Math.min(deadMilliseconds, touchesPerIdle * store.touchMilliseconds)
  let touchedAt = performance.now()
  const isOurs = () => performance.now() - touchedAt < ownMilliseconds
  const stop = keepTouching(Math.min(touchMilliseconds, store.touchMilliseconds), async (call) => {
    if (!isOurs()) return
    const at = performance.now()
    await bucket.put(key, nothing, { ...call, metadata: writeMetadata(id) })
    touchedAt = at
  })
  try {
    return await work(id)
  } finally {
    await stop()
    const call = { signal: AbortSignal.timeout(giveBackMilliseconds) }
    // What cannot be given back is taken for dead after a while, and no reason to hide how the work ended.
    await (isOurs() ? bucket.delete(key, call) : giveBack(bucket, key, id, call)).catch(() => {})
  }
}

/** Removes the lock if it is the one of that ID. */
export async function giveBack(bucket: Bucket, key: string, id: string, call: Call): Promise<void> {
  if (isOf(await bucket.head(key, call), id)) await bucket.delete(key, call)
}

async function take(store: Store, key: string, id: string, { signal }: Call): Promise<void> {
  const { bucket } = store
  for (const end = performance.now() + patienceMilliseconds; performance.now() < end; ) {
    if (await make(bucket, key, id, { signal })) return
    const lock = await bucket.head(key, { signal })
    const before = bucket.clock.now() - deadMilliseconds
    if (isDead(lock, before)) await removeDeadLock(store, key, { before, signal })
    await sleep(pauseMilliseconds * (1 + Math.random()), undefined, { signal })
  }
  throw new Busy('another writer of the same file does not come to its end')
}

/** @returns whether it is made; false when there is one already */
async function make(bucket: Bucket, key: string, id: string, { signal }: Call): Promise<boolean> {
  try {
    await bucket.put(key, nothing, { signal, ifAbsent: true, metadata: writeMetadata(id) })
    return true
  } catch (error) {
    if (error instanceof Busy) return false
    // The answer of a first attempt may have been lost.
    if (error instanceof PreconditionFailed)
      return attemptsOf(error) > 1 && isOf(await bucket.head(key, { signal }), id)
    // So may have been the only one, as when the client went away.
    await giveBack(bucket, key, id, { signal: AbortSignal.timeout(giveBackMilliseconds) }).catch(() => {})
    throw error
  }
}

function isDead(lock: StoredObject | undefined, before: number): boolean {
  return lock !== undefined && lock.modifiedAt.getTime() < before
}

/**
 * Removes a lock that was not touched after the moment `before`. Under a lock of its own, for else the second of two who
 * find it dead could remove the one of whom the first has let in. That one is made for an instant, so an old one is dead.
 */
export async function removeDeadLock(
  { bucket, keys }: Pick<Store, 'bucket' | 'keys'>,
  key: string,
  { before, signal }: Call & { before: number },
): Promise<void> {
  const removal = keys.lock('removal', key)
  const id = randomUUID()
  if (!(await make(bucket, removal, id, { signal }))) {
    if (isDead(await bucket.head(removal, { signal }), before)) await bucket.delete(removal, { signal })
    return
  }
  try {
    if (isDead(await bucket.head(key, { signal }), before)) await bucket.delete(key, { signal })
  } finally {
    await bucket.delete(removal, { signal: AbortSignal.timeout(giveBackMilliseconds) }).catch(() => {})
  }
}
