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
 */
export async function locked<T>(store: Store, key: string, { signal }: Call, work: () => Promise<T>): Promise<T> {
  const { bucket, conditions } = store
  const { ifAbsent } = await conditions.forPut({ ifAbsent: true }, { signal })
  if (!ifAbsent) return work()
  await take(store, key, { signal })
  let touched = Promise.resolve()
  const touch = () => {
    touched = bucket.put(key, nothing, { signal }).then(
      () => {},
      () => {}, // The next one may come through, or the work fails as well.
    )
  }
  const touching = setInterval(touch, touchMilliseconds)
  try {
    return await work()
  } finally {
    clearInterval(touching)
    await touched
    // What cannot be given back is taken for dead after a while, and no reason to hide how the work ended.
    await bucket.delete(key, { signal: AbortSignal.timeout(patienceMilliseconds) }).catch(() => {})
  }
}

/** The server may have made the lock whose answer never came, as when the client went away. */
async function giveBack(bucket: Bucket, key: string, id: string): Promise<void> {
  const signal = AbortSignal.timeout(giveBackMilliseconds)
  try {
    if (isOf(await bucket.head(key, { signal }), id)) await bucket.delete(key, { signal })
  } catch {
    // It is taken for dead after a while.
  }
}

async function take({ bucket }: Store, key: string, { signal }: Call): Promise<void> {
  const id = randomUUID()
  for (const end = performance.now() + patienceMilliseconds; performance.now() < end; ) {
    const taken = await bucket.put(key, nothing, { signal, ifAbsent: true, metadata: writeMetadata(id) }).then(
      () => true,
      async (error) => {
        if (error instanceof PreconditionFailed) return false
        await giveBack(bucket, key, id)
        throw error
      },
    )
    if (taken) return
    const lock = await bucket.head(key, { signal })
    if (isOf(lock, id)) return
    if (lock !== undefined && Date.now() - lock.modifiedAt.getTime() > deadMilliseconds) {
      await bucket.delete(key, { signal })
    }
    await sleep(pauseMilliseconds * (1 + Math.random()), undefined, { signal })
  }
  throw new Busy('another writer of the same file does not come to its end')
}
