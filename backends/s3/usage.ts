import type { Amount, Call } from '../backend.ts'
import { NotFound } from '../errors.ts'
import type { Store } from './store.ts'

export async function folderUsage({ bucket, keys }: Store, folder: string, { signal }: Call): Promise<Amount> {
  const total = { files: 0, bytes: 0 }
  const prefix = keys.folder(folder)
  let found = false
  for await (const page of bucket.pages({ prefix, signal })) {
    found = true
    for (const { key, size } of page) {
      if (key.endsWith('/')) continue
      total.files++
      total.bytes += size
    }
  }
  if (!found) throw new NotFound('the vfolder does not exist')
  return total
}
