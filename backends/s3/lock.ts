import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Call } from '../backend.ts'
import { Busy, PreconditionFailed } from '../errors.ts'
import type { Bucket } from './bucket.ts'
import type { Store } from './store.ts'
import { isOf, writeMetadata } from './write-id.ts'

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
 * which takes a server that keeps `If-None-Match: *` for PutObject; with another one the work runs without.
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
  const takenAt = performance.now()
  let touched = Promise.resolve()
  const touch = () => {
    touched = bucket.put(key, nothing, { signal, metadata: writeMetadata(id) }).then(
      () => {},
      () => {}, // The next one may come through, or the work fails as well.
    )
  }
  const touching = setInterval(touch, Math.min(touchMilliseconds, store.touchMilliseconds))
  try {
    return await work(id)
  } finally {
    clearInterval(touching)
    await touched
    // After so long somebody may have taken this one for dead, and have a lock of his own there.
    const isOurs = performance.now() - takenAt < deadMilliseconds
    const call = { signal: AbortSignal.timeout(giveBackMilliseconds) }
    // What cannot be given back is taken for dead after a while, and no reason to hide how the work ended.
    await (isOurs ? bucket.delete(key, call) : giveBack(bucket, key, id, call)).catch(() => {})
  }
}

/** Removes the lock if it is the one of that ID. */
export async function giveBack(bucket: Bucket, key: string, id: string, call: Call): Promise<void> {
  if (isOf(await bucket.head(key, call), id)) await bucket.delete(key, call)
}

async function take(store: Store, key: string, id: string, { signal }: Call): Promise<void> {
  const { bucket } = store
  for (const end = performance.now() + patienceMilliseconds; performance.now() < end; ) {
    const taken = await bucket.put(key, nothing, { signal, ifAbsent: true, metadata: writeMetadata(id) }).then(
      () => true,
      async (error) => {
        if (error instanceof PreconditionFailed || error instanceof Busy) return false
        // The server may have made the lock whose answer never came, as when the client went away.
        await giveBack(bucket, key, id, { signal: AbortSignal.timeout(giveBackMilliseconds) }).catch(() => {})
        throw error
      },
    )
    if (taken) return
    const lock = await bucket.head(key, { signal })
    if (isOf(lock, id)) return
    const dead = { before: bucket.clock.now() - deadMilliseconds, signal }
    if (lock !== undefined && lock.modifiedAt.getTime() < dead.before) await removeDeadLock(store, key, dead)
    await sleep(pauseMilliseconds * (1 + Math.random()), undefined, { signal })
  }
  throw new Busy('another writer of the same file does not come to its end')
}

/**
 * Removes a lock that was not touched after the moment `before`. Under a lock of its own, for else the second of two who
 * find it dead could remove the one of whom the first has let in. If that one's holder dies, the cleanup removes it.
 */
export async function removeDeadLock(
  { bucket, keys }: Store,
  key: string,
  { before, signal }: Call & { before: number },
): Promise<void> {
  const removal = keys.lock('removal', key)
  const isAlone = await bucket.put(removal, nothing, { signal, ifAbsent: true }).then(
    () => true,
    (error) => {
      if (error instanceof PreconditionFailed || error instanceof Busy) return false
      throw error
    },
  )
  if (!isAlone) return
  try {
    const lock = await bucket.head(key, { signal })
    if (lock !== undefined && lock.modifiedAt.getTime() < before) await bucket.delete(key, { signal })
  } finally {
    await bucket.delete(removal, { signal: AbortSignal.timeout(giveBackMilliseconds) }).catch(() => {})
  }
}
