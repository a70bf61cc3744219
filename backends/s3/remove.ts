import type { Amount, Call, OnProgress, RemoveOptions } from '../backend.ts'
import { NotEmpty, NotFound } from '../errors.ts'
import { eachInOrder } from './each.ts'
import { keepParent } from './entry.ts'
import type { Store } from './store.ts'

/** Batches of a thousand objects under way at once. */
const batchesAtOnce = 4

/** Of equal calls at once one has removed it, and tells how much that was. */
export async function removeEntry(store: Store, folder: string, path: string, options: RemoveOptions): Promise<Amount> {
  return store.turns.run(store.keys.entry(folder, path), options, () => remove(store, folder, path, options))
}

async function remove(store: Store, folder: string, path: string, options: RemoveOptions): Promise<Amount> {
  const { bucket, keys } = store
  const { recursive, signal, onProgress } = options
  const key = keys.entry(folder, path)
  const file = await bucket.head(key, { signal })
  if (file !== undefined) {
    await keepParent(store, folder, path, { signal })
    signal.throwIfAborted()
    await bucket.delete(key, unbroken())
    return { files: 1, bytes: file.size }
  }
  const { objects } = await bucket.page({ prefix: `${key}/`, limit: 2, signal })
  if (objects.length === 0) throw new NotFound(`${path} does not exist`)
  if (!recursive && objects.some((object) => object.key !== `${key}/`)) throw new NotEmpty(`${path} is not empty`)
  await keepParent(store, folder, path, { signal })
  return removeTree(store, `${key}/`, { signal, onProgress })
}

/**
 * Deletes all objects whose keys begin with `prefix`, by batches, and counts the files among them. The marker goes
 * last: what is not done is found by the next call.
 */
export async function removeTree(
  { bucket }: Store,
  prefix: string,
  { signal, onProgress }: Call & { onProgress?: OnProgress | undefined },
): Promise<Amount> {
  const total = { files: 0, bytes: 0 }
  await eachInOrder(
    (call) => bucket.pages({ prefix, after: prefix, ...call }),
    batchesAtOnce,
    { signal },
    async (page) => {
      await bucket.deleteMany(
        page.map(({ key }) => key),
        unbroken(),
      )
      for (const { key, size } of page) {
        if (key.endsWith('/')) continue
        total.files++
        total.bytes += size
      }
      onProgress?.({ ...total })
    },
  )
  await bucket.delete(prefix, { signal })
  return total
}

/** A deletion that was sent is waited for: when it is broken off nobody knows what it has deleted. */
export function unbroken(): Call {
  return { signal: new AbortController().signal }
}
