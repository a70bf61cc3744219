import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { Cloned, CloneOptions } from '../backend.ts'
import { NotFound } from '../errors.ts'
import type { StoredObject } from './bucket.ts'
import { copyObject } from './copy.ts'
import { eachInOrder } from './each.ts'
import { isCurrent, pairs } from './list.ts'
import type { Store } from './store.ts'

/** Copies under way at once: the server does the work, so it is its time to answer that is made up for. */
export const copiesAtOnce = 64
const changedPaths = 100

/** The copy of every object up to the name `after` is done. */
const Checkpoint = Type.Object({ after: Type.String(), files: Type.Integer(), bytes: Type.Integer() })

export async function cloneFolder(store: Store, from: string, to: string, options: CloneOptions): Promise<Cloned> {
  const { bucket, keys } = store
  const { signal, onProgress, onCheckpoint } = options
  const [source, copy] = [keys.folder(from), keys.folder(to)]
  const done = Value.Check(Checkpoint, options.checkpoint)
    ? { ...options.checkpoint }
    : { after: '', files: 0, bytes: 0 }
  const { objects } = await bucket.page({ prefix: source, limit: 1, signal })
  if (objects.length === 0) throw new NotFound('the vfolder does not exist')

  const nameOf = ({ key }: StoredObject) => key.slice(source.length)
  await eachInOrder(
    (call) => bucket.objects({ prefix: source, after: source + done.after, ...call }),
    copiesAtOnce,
    { signal },
    (object, call) => copyObject(store, object, copy + nameOf(object), call),
    (object, copied) => {
      if (copied !== undefined && !object.key.endsWith('/')) {
        done.files++
        done.bytes += copied.size
      }
      done.after = nameOf(object)
      onProgress({ files: done.files, bytes: done.bytes })
      onCheckpoint({ ...done })
    },
  )
  const { files, bytes } = done
  return { files, bytes, ...(await compare(store, source, copy, options)) }
}

/** Tells what came, went or changed meanwhile, by both listings. */
async function compare(
  { bucket }: Store,
  from: string,
  to: string,
  { signal }: CloneOptions,
): Promise<Pick<Cloned, 'changed' | 'changedCount'>> {
  const changed: string[] = []
  let changedCount = 0
  for await (const { name, source, copy } of pairs(bucket, from, to, { signal })) {
    if (source !== undefined && isCurrent(source, copy)) continue
    if (name === '') continue
    changedCount++
    if (changed.length < changedPaths) changed.push(name.replace(/\/$/, ''))
  }
  return { changed, changedCount }
}
