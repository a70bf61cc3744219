import type { Metadata } from 'opendal'
import { type Entry, IsADirectory, type OpenFile, Unavailable } from 'storage-proxy/backend'
import { getEntry, toEntry } from './entries.ts'
import { ifPresent, kindOf, translated } from './errors.ts'
import { fileKey } from './keys.ts'
import type { Store } from './store.ts'

const blockBytes = 4 * 1024 * 1024

export async function openFile(store: Store, folder: string, path: string): Promise<OpenFile> {
  const key = fileKey(folder, path)
  const metadata = await translated(path, () => ifPresent(store.operator.stat(key)))
  if (metadata === undefined || metadata.isDirectory()) {
    await getEntry(store, folder, path)
    throw new IsADirectory(`${path} is a directory`)
  }
  return openObject(store, key, toEntry(path, metadata), metadata)
}

/** Each block is a request of its own; with each it is made sure that it is of the version that `metadata` tells of. */
export function openObject(store: Store, key: string, entry: Entry, metadata: Metadata): OpenFile {
  return {
    entry,
    async *chunks({ start, end }) {
      for (let position = start; position < end; position += blockBytes) {
        const size = Math.min(blockBytes, end - position)
        yield await readBlock(store, key, entry.path, metadata, { offset: BigInt(position), size: BigInt(size) })
      }
    },
    close() {},
  }
}

async function readBlock(
  { operator, capability }: Store,
  key: string,
  path: string,
  metadata: Metadata,
  range: { offset: bigint; size: bigint },
): Promise<Buffer> {
  const ifMatch = capability.readWithIfMatch ? (metadata.etag ?? undefined) : undefined
  const block = await translated(path, async () => {
    const bytes = await operator.read(key, { ...range, ifMatch }).catch((error) => {
      if (!isOtherVersion(error)) throw error
    })
    if (bytes === undefined || ifMatch !== undefined) return bytes
    const now = await ifPresent(operator.stat(key))
    return now !== undefined && versionOf(now) === versionOf(metadata) ? bytes : undefined
  })
  if (block === undefined) throw new Unavailable(`${path} changed while it was read`)
  return block
}

/** It is gone, shorter, or has another etag. */
function isOtherVersion(error: unknown): boolean {
  return /too little data/.test(String(error)) || ['NotFound', 'ConditionNotMatch'].includes(kindOf(error) ?? '')
}

function versionOf({ etag, lastModified, contentLength }: Metadata): string {
  return `${etag} ${lastModified} ${contentLength}`
}
