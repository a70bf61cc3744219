import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Call } from '../backend.ts'
import { PreconditionFailed, Unavailable } from '../errors.ts'
import type { Store } from './store.ts'
import { isOf, writeMetadata } from './write-id.ts'

const pauseMilliseconds = 50
const patienceMilliseconds = 30_000
/** What is done under a lock takes a few commands; after so long its holder is dead. */
const deadMilliseconds = 60_000

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
  try {
    return await work()
  } finally {
    // What is done is done; a lock that stays is taken for one of the dead.
    await bucket.delete(key, { signal: AbortSignal.timeout(patienceMilliseconds) }).catch(() => {})
  }
}

async function take({ bucket }: Store, key: string, { signal }: Call): Promise<void> {
  const id = randomUUID()
  for (const end = performance.now() + patienceMilliseconds; performance.now() < end; ) {
    const taken = await bucket.put(key, nothing, { signal, ifAbsent: true, metadata: writeMetadata(id) }).then(
      () => true,
      (error) => {
        if (error instanceof PreconditionFailed) return false
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
  throw new Unavailable('another writer of the same file does not come to its end')
}
