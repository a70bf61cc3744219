import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Amount, Call } from '../backend.ts'
import { readStorageTime } from './clock.ts'
import { translateErrorsOf } from './errno.ts'
import type { Layout } from './layout.ts'
import { removeTrees } from './remove.ts'

/**
 * Frees staged bytes that were not written to for `idleSeconds`: a live writer writes more often than that, since an
 * idle connection is cut sooner. The trash is not garbage: the job that removes a vfolder goes on until its bytes are
 * free.
 */
export async function collectGarbage(
  layout: Layout,
  { idleSeconds, signal }: Call & { idleSeconds: number },
): Promise<Amount> {
  const oldest = (await readStorageTime(layout)) - idleSeconds * 1000
  const idle: string[] = []
  for (const name of await translateErrorsOf('the staging place', () => readdir(layout.staging))) {
    const stats = await lstat(join(layout.staging, name)).catch(() => undefined)
    // Not the modification time: a file that is about to appear may have been given that of its source.
    if (stats !== undefined && stats.ctimeMs < oldest) idle.push(name)
  }
  return removeTrees(layout.staging, idle, { signal })
}
