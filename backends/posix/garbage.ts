import { lstat, open, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Amount, Call } from '../backend.ts'
import type { Layout } from './layout.ts'
import { add, removeTree } from './remove.ts'

/**
 * Frees the trash, and what was staged but not written to for `idleSeconds`: a live writer writes more often than that,
 * since an idle connection is cut sooner.
 */
export async function collectGarbage(
  layout: Layout,
  { idleSeconds, signal }: Call & { idleSeconds: number },
): Promise<Amount> {
  const removed = { files: 0, bytes: 0 }
  for (const name of await readdir(layout.trash)) add(removed, await removeTree(join(layout.trash, name), signal))

  const oldest = (await storageTime(layout)) - idleSeconds * 1000
  for (const name of await readdir(layout.staging)) {
    const path = join(layout.staging, name)
    const stats = await lstat(path).catch(() => undefined)
    if (stats !== undefined && stats.mtimeMs < oldest) add(removed, await removeTree(path, signal))
  }
  return removed
}

/** The storage's own clock, since on a network filesystem it is what modification times are taken from. */
async function storageTime(layout: Layout): Promise<number> {
  const path = layout.newStaging()
  const handle = await open(path, 'wx', 0o600)
  try {
    return (await handle.stat()).mtimeMs
  } finally {
    await handle.close()
    await unlink(path)
  }
}
