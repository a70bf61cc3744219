import type { Call } from '../backend.ts'
import { compareBytes } from '../order.ts'
import type { Bucket, StoredObject } from './bucket.ts'

/** The objects of one name below two prefixes; one of them may be missing. */
export interface Pair {
  /** The key without the prefix. */
  name: string
  source: StoredObject | undefined
  copy: StoredObject | undefined
}

/** Walks through two listings side by side, in constant memory. */
export async function* pairs(bucket: Bucket, from: string, to: string, { signal }: Call): AsyncGenerator<Pair> {
  const sources = bucket.objects({ prefix: from, signal })
  const copies = bucket.objects({ prefix: to, signal })
  const next = async (objects: AsyncGenerator<StoredObject>) => {
    const { value, done } = await objects.next()
    return done ? undefined : value
  }
  let [source, copy] = await Promise.all([next(sources), next(copies)])
  while (source !== undefined || copy !== undefined) {
    const order = orderOf(source?.key.slice(from.length), copy?.key.slice(to.length))
    const pair = { source: order <= 0 ? source : undefined, copy: order >= 0 ? copy : undefined }
    yield { name: pair.source?.key.slice(from.length) ?? pair.copy?.key.slice(to.length) ?? '', ...pair }
    if (pair.source !== undefined) source = await next(sources)
    if (pair.copy !== undefined) copy = await next(copies)
  }
}

function orderOf(a: string | undefined, b: string | undefined): number {
  if (a === undefined) return 1
  return b === undefined ? -1 : compareBytes(a, b)
}

/**
 * Whether a copy that was made of the source has its bytes of now. A server may give the copy of a large object another
 * etag; then it is by the times.
 */
export function isCurrent(source: StoredObject, copy: StoredObject | undefined): boolean {
  if (copy?.size !== source.size) return false
  return copy.etag === source.etag || source.modifiedAt <= copy.modifiedAt
}
