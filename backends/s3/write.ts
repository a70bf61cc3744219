import { randomUUID } from 'node:crypto'
import type { WriteOptions, Written } from '../backend.ts'
import { SizeMismatch } from '../errors.ts'
import { writeMetadata } from './layout.ts'
import { Multipart } from './multipart.ts'
import { gather } from './parts.ts'
import { completing, publish, putting, type Target } from './publish.ts'
import type { Store } from './store.ts'

/** A file of one part is stored by PutObject, a larger one by a multipart upload. */
export async function writeFile(
  store: Store,
  target: Target,
  source: AsyncIterable<Buffer>,
  options: WriteOptions,
): Promise<Written> {
  const { keys, buffers } = store
  const { signal, size } = options
  const key = keys.entry(target.folder, target.path)
  const id = randomUUID()
  let multipart: Promise<Multipart> | undefined
  const begun = () => {
    multipart ??= Multipart.begin(store, key, { signal, metadata: writeMetadata(id) })
    return multipart
  }
  const parts = {
    buffers,
    partBytes: buffers.bytes,
    signal,
    store: async (index: number, body: Buffer) => (await begun()).put(index + 1, body, { signal }),
  }
  try {
    return await gather(limited(source, size), parts, async ({ index, body, bytes }) => {
      if (size !== undefined && bytes !== size) throw new SizeMismatch(`${bytes} bytes came instead of ${size}`)
      if (multipart === undefined) return publish(store, target, id, options, putting(store, key, body, id))
      const upload = await multipart
      await upload.put(index + 1, body, { signal })
      return publish(store, target, id, options, completing(store, upload, bytes))
    })
  } catch (error) {
    // What cannot be freed now is garbage, and no reason to hide the first failure.
    await multipart?.then((upload) => upload.abort()).catch(() => {})
    throw error
  }
}

async function* limited(source: AsyncIterable<Buffer>, size = Number.POSITIVE_INFINITY): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of source) {
    bytes += chunk.length
    if (bytes > size) throw new SizeMismatch(`more than ${size} bytes came`)
    yield chunk
  }
}
