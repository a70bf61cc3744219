import { ListMultipartUploadsCommand, ListPartsCommand, type MultipartUpload } from '@aws-sdk/client-s3'
import type { Amount, Call } from '../backend.ts'
import { UploadNotFound } from '../errors.ts'
import { decoded } from './bucket.ts'
import { isOwn } from './layout.ts'
import { removeDeadLock } from './lock.ts'
import { resumeMove } from './move.ts'
import { abortMultipart, aliveKey } from './multipart.ts'
import type { Store } from './store.ts'

interface Stale extends Call {
  /** What was touched after this moment is somebody's work. */
  before: number
}

/**
 * Aborts multipart uploads that got no part for `idleSeconds`, goes on with moves whose process died, and removes what
 * was written for a try, and locks of the dead. Resumable uploads are no garbage, but for parts that came after their
 * end: they are ended by who knows them. Of moves that cannot be finished the first failure is told, at the end.
 */
export async function collectGarbage(
  store: Store,
  { idleSeconds, signal }: Call & { idleSeconds: number },
): Promise<Amount> {
  // Its answer tells the time.
  await store.bucket.reach(store.keys.vfolders, { signal })
  const stale = { before: store.bucket.clock.now() - idleSeconds * 1000, signal }
  const { files, bytes } = await abortMultiparts(store, store.keys.vfolders, stale)
  const probes = await abortMultiparts(store, store.keys.probes, stale)
  const failures = await resumeMoves(store, stale)
  for await (const { key, modifiedAt } of store.bucket.objects({ prefix: store.keys.probes, signal })) {
    if (modifiedAt.getTime() < stale.before && isOwn(key)) await store.bucket.delete(key, { signal })
  }
  for await (const { key, modifiedAt } of store.bucket.objects({ prefix: store.keys.locks, signal })) {
    if (modifiedAt.getTime() < stale.before && isOwn(key)) await removeDeadLock(store, key, stale)
  }
  const orphans = await removeOrphans(store, stale)
  if (failures.length > 0) throw failures[0]
  return { files: files + probes.files + orphans.files, bytes: bytes + probes.bytes + orphans.bytes }
}

/** @returns why some could not be finished; the others are */
async function resumeMoves(store: Store, { before, signal }: Stale): Promise<unknown[]> {
  const failures: unknown[] = []
  for await (const { key, modifiedAt } of store.bucket.objects({ prefix: store.keys.moves, signal })) {
    if (modifiedAt.getTime() >= before || !isOwn(key)) continue
    await resumeMove(store, key, { signal }).catch((error) => failures.push(error))
    signal.throwIfAborted()
  }
  return failures
}

/** A client may send a part of an upload that was completed or aborted meanwhile, as long as its presigned URL lives. */
async function removeOrphans({ bucket, keys }: Store, { before, signal }: Stale): Promise<Amount> {
  const removed = { files: 0, bytes: 0 }
  let marker = ''
  for await (const { key, size, modifiedAt } of bucket.objects({ prefix: keys.uploads, signal })) {
    if (key.endsWith('/')) marker = key
    if (key.startsWith(marker) && marker !== '') continue
    if (modifiedAt.getTime() >= before || !isOwn(key)) continue
    await bucket.delete(key, { signal })
    removed.files++
    removed.bytes += size
  }
  return removed
}

async function abortMultiparts(store: Store, prefix: string, stale: Stale): Promise<Amount> {
  const { bucket } = store
  const removed = { files: 0, bytes: 0 }
  const common = { Bucket: bucket.name, Prefix: prefix, EncodingType: 'url' } as const
  let markers: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {}
  for (;;) {
    const command = new ListMultipartUploadsCommand({ ...common, ...markers })
    const page = await bucket.run(stale.signal, (options) => bucket.client.send(command, options))
    for (const upload of page.Uploads ?? []) {
      const bytes = await abortWhenStale(store, upload, stale)
      if (bytes === undefined) continue
      removed.files++
      removed.bytes += bytes
    }
    if (!page.IsTruncated) return removed
    markers = { KeyMarker: decoded(page.NextKeyMarker ?? ''), UploadIdMarker: page.NextUploadIdMarker }
  }
}

/** @returns the bytes that it had; undefined when it is in use */
async function abortWhenStale(
  { bucket, keys }: Store,
  { Key = '', UploadId = '', Initiated = new Date() }: MultipartUpload,
  { before, signal }: Stale,
): Promise<number | undefined> {
  if (Initiated.getTime() >= before) return undefined
  const key = decoded(Key)
  let bytes = 0
  let marker: string | undefined
  try {
    for (;;) {
      const named = { Bucket: bucket.name, Key: key, UploadId, ...(marker && { PartNumberMarker: marker }) }
      const page = await bucket.run(signal, (options) => bucket.client.send(new ListPartsCommand(named), options))
      for (const { Size = 0, LastModified = Initiated } of page.Parts ?? []) {
        if (LastModified.getTime() >= before) return undefined
        bytes += Size
      }
      if (!page.IsTruncated) break
      marker = page.NextPartNumberMarker
    }
  } catch (error) {
    if (error instanceof UploadNotFound) return undefined
    throw error
  }
  const alive = await bucket.head(aliveKey(keys, UploadId), { signal })
  if (alive !== undefined && alive.modifiedAt.getTime() >= before) return undefined
  await abortMultipart(bucket, key, UploadId, { signal })
  return bytes
}
