import type {
  AppendOptions,
  Call,
  CompleteOptions,
  OpenFile,
  PresignedPart,
  PresignUploadOptions,
  Written,
} from '../backend.ts'
import { NotFound, Unavailable, UploadNotFound } from '../errors.ts'
import type { StoredObject } from './bucket.ts'
import { copyParts } from './copy.ts'
import { fileEntry } from './entry.ts'
import { isOf, writeMetadata } from './layout.ts'
import { Multipart } from './multipart.ts'
import { gather } from './parts.ts'
import { completing, publish, putting, type Target } from './publish.ts'
import { readChunks } from './read.ts'
import type { Store } from './store.ts'

// The parts of a multipart upload cannot be read again, nor cut, nor be smaller than 5 MiB; the bytes of a resumable
// upload must allow for all of that. So they are objects of their own, segments of one size, of which only the last one
// is shorter. Each is replaced as a whole, which is safe at any moment; what is behind the offset that was told is
// never looked at. When all are there the server makes a file of them, by parts that it copies itself.

const nothing = Buffer.alloc(0)
const segmentBytesName = 'segment-bytes'
/** So many URLs are an answer that a client can still hold. */
const mostParts = 1000
const MiB = 1024 * 1024

/** How the upload's segments are cut: by the part size of the process that began it. */
interface Segments {
  bytes: number
}

export async function beginUpload(store: Store, upload: string, call: Call): Promise<void> {
  const marker = await store.bucket.head(store.keys.upload(upload), call)
  if (marker === undefined) await putUploadMarker(store, upload, store.buffers.bytes, call)
}

export async function putUploadMarker(
  { bucket, keys }: Store,
  upload: string,
  segmentBytes: number,
  { signal }: Call,
): Promise<void> {
  await bucket.put(keys.upload(upload), nothing, { signal, metadata: { [segmentBytesName]: String(segmentBytes) } })
}

/** @throws {UploadNotFound} */
async function segmentsOf({ bucket, keys }: Store, upload: string, call: Call): Promise<Segments> {
  const marker = await bucket.head(keys.upload(upload), call)
  if (marker === undefined) throw new UploadNotFound(`there is no upload ${upload}`)
  return { bytes: Number(marker.metadata[segmentBytesName]) }
}

export async function appendUpload(
  store: Store,
  upload: string,
  source: AsyncIterable<Buffer>,
  { offset, signal, onDurable }: AppendOptions,
): Promise<number> {
  const { bucket, keys, buffers } = store
  const { bytes: segmentBytes } = await segmentsOf(store, upload, { signal })
  if (segmentBytes > buffers.bytes)
    throw new Unavailable('the upload was begun with larger parts than this process has')
  const index = Math.floor(offset / segmentBytes)
  const stored = new Set<number>()
  let whole = index
  const storeSegment = async (index: number, body: Buffer) => {
    await bucket.put(keys.segment(upload, index), body, { signal })
    // Several are under way at once.
    stored.add(index)
    while (stored.delete(whole)) onDurable?.(++whole * segmentBytes)
  }
  const begin = {
    index,
    bytes: offset % segmentBytes,
    async fill(buffer: Buffer) {
      await readInto(store, keys.segment(upload, index), upload, buffer, { signal })
    },
  }
  const gathering = { buffers, partBytes: segmentBytes, signal, begin, store: storeSegment }
  return gather(source, gathering, async ({ index, body, bytes }) => {
    if (bytes > 0) await bucket.put(keys.segment(upload, index), body, { signal })
    return offset + bytes
  })
}

/** Reads as many bytes of a segment as `buffer` has. */
async function readInto(store: Store, key: string, upload: string, buffer: Buffer, call: Call): Promise<void> {
  const segment = await requireSegment(store, key, upload, call)
  if (segment.size < buffer.length) throw new Unavailable(`the upload ${upload} has fewer bytes than were told of`)
  let filled = 0
  for await (const chunk of readChunks(
    store.bucket,
    segment,
    `the upload ${upload}`,
    { start: 0, end: buffer.length },
    call,
  )) {
    filled += chunk.copy(buffer, filled)
  }
}

async function requireSegment({ bucket }: Store, key: string, upload: string, call: Call): Promise<StoredObject> {
  const segment = await bucket.head(key, call)
  if (segment === undefined) throw new UploadNotFound(`there is no upload ${upload}, or not all of it`)
  return segment
}

export async function openUpload(store: Store, upload: string, { signal }: Call): Promise<OpenFile> {
  const { bytes: segmentBytes } = await segmentsOf(store, upload, { signal })
  const prefix = store.keys.upload(upload)
  const whole = { key: prefix, size: 0, modifiedAt: new Date(0), etag: upload }
  for await (const { key, size, modifiedAt } of store.bucket.objects({ prefix, after: prefix, signal })) {
    if (key !== store.keys.segment(upload, Math.floor(whole.size / segmentBytes))) break
    whole.size += size
    whole.modifiedAt = modifiedAt
    if (size < segmentBytes) break
  }
  async function* chunks({ start, end }: { start: number; end: number }): AsyncGenerator<Buffer> {
    for (let position = start; position < end; ) {
      const index = Math.floor(position / segmentBytes)
      const first = index * segmentBytes
      const segment = await requireSegment(store, store.keys.segment(upload, index), upload, { signal })
      const range = { start: position - first, end: Math.min(end - first, segmentBytes) }
      if (segment.size < range.end) throw new Unavailable(`the upload ${upload} became shorter while it was read`)
      yield* readChunks(store.bucket, segment, `the upload ${upload}`, range, { signal })
      position = first + range.end
    }
  }
  return { entry: fileEntry(upload, whole), chunks, close: () => {} }
}

export async function completeUpload(
  store: Store,
  target: Target,
  upload: string,
  options: CompleteOptions,
): Promise<Written> {
  const { size, signal } = options
  const { bytes: segmentBytes } = await segmentsOf(store, upload, { signal })
  const key = store.keys.entry(target.folder, target.path)
  // A process that died had come to the end, but for forgetting the upload.
  if (isOf(await store.bucket.head(key, { signal }), upload)) {
    await abortUpload(store, upload, { signal })
    throw new UploadNotFound(`the upload ${upload} is a file already`)
  }
  const written = await (size <= Math.min(segmentBytes, store.buffers.bytes)
    ? fromOneSegment(store, target, upload, options)
    : fromSegments(store, target, upload, { ...options, segmentBytes })
  ).catch((error) => {
    // The upload is there, so this is no sign that it is a file already.
    if (!(error instanceof NotFound || error instanceof UploadNotFound)) throw error
    throw new Unavailable('the storage has lost parts of the file, for now or for ever', { cause: error })
  })
  await abortUpload(store, upload, { signal })
  return written
}

async function fromOneSegment(
  store: Store,
  target: Target,
  upload: string,
  { size, ...options }: CompleteOptions,
): Promise<Written> {
  const { buffers, keys } = store
  const buffer = await buffers.acquire(options.signal)
  try {
    const body = buffer.subarray(0, size)
    if (size > 0) await readInto(store, keys.segment(upload, 0), upload, body, options)
    const key = keys.entry(target.folder, target.path)
    return await publish(store, target, upload, options, putting(store, key, body, upload))
  } finally {
    buffers.release(buffer)
  }
}

async function fromSegments(
  store: Store,
  target: Target,
  upload: string,
  { size, segmentBytes, signal, ...options }: CompleteOptions & { segmentBytes: number },
): Promise<Written> {
  const { bucket, keys } = store
  const segments = new Map<string, StoredObject>()
  for await (const object of bucket.objects({ prefix: keys.upload(upload), signal })) segments.set(object.key, object)
  const parts = Array.from({ length: Math.ceil(size / segmentBytes) }, (_, index) => {
    const object = segments.get(keys.segment(upload, index))
    if (object === undefined) throw new UploadNotFound(`there is no upload ${upload}, or not all of it`)
    return { object, start: 0, end: Math.min(segmentBytes, size - index * segmentBytes) }
  })
  const key = keys.entry(target.folder, target.path)
  const multipart = await Multipart.begin(store, key, { signal, metadata: writeMetadata(upload) })
  try {
    await copyParts(multipart, parts, { signal })
    return await publish(store, target, upload, { signal, ...options }, completing(store, multipart, size))
  } catch (error) {
    await multipart.abort().catch(() => {})
    throw error
  }
}

/** The marker goes last, so that what is left of an upload is found again. */
export async function abortUpload({ bucket, keys }: Store, upload: string, { signal }: Call): Promise<void> {
  const marker = keys.upload(upload)
  for await (const page of bucket.pages({ prefix: marker, after: marker, signal })) {
    await bucket.deleteMany(
      page.map(({ key }) => key),
      { signal },
    )
  }
  await bucket.delete(marker, { signal })
}

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
