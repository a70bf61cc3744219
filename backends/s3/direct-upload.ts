import type { PresignedPart, PresignUploadOptions } from '../backend.ts'
import type { Store } from './store.ts'
import { putUploadMarker } from './upload.ts'

/** So many URLs are an answer that a client can still hold. */
const mostParts = 1000
const MiB = 1024 * 1024

/** The segments of an upload, each to be stored by its client. They take no memory here, and so are as large as need be. */
export async function presignUpload(
  store: Store,
  upload: string,
  { size, expiresInSeconds, signal }: PresignUploadOptions,
): Promise<PresignedPart[]> {
  const bytes = Math.max(store.buffers.bytes, Math.ceil(size / mostParts / MiB) * MiB)
  await putUploadMarker(store, upload, bytes, { signal })
  return Promise.all(
    Array.from({ length: Math.ceil(size / bytes) }, async (_, index) => {
      const start = index * bytes
      const end = Math.min(start + bytes, size)
      const url = await store.presigner.upload(store.keys.segment(upload, index), end - start, expiresInSeconds)
      return { url, start, end }
    }),
  )
}
