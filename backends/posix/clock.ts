import { open, unlink } from 'node:fs/promises'
import { translateErrorsOf } from './errno.ts'
import type { Layout } from './layout.ts'

/** The storage's own clock in milliseconds, since a network filesystem takes the times of entries from it. */
export async function readStorageTime(layout: Layout): Promise<number> {
  const path = layout.newStaging()
  return translateErrorsOf('the staging place', async () => {
    const handle = await open(path, 'wx', 0o600)
    try {
      return (await handle.stat()).mtimeMs
    } finally {
      await handle.close()
      await unlink(path)
    }
  })
}
