import fs from 'node:fs'
import { translateErrorsOf } from './errno.ts'
import { close, fstat, open, unlink } from './files.ts'
import type { Layout } from './layout.ts'

const { O_CREAT, O_EXCL, O_WRONLY } = fs.constants

/** The storage's own clock in milliseconds, since a network filesystem takes the times of entries from it. */
export async function readStorageTime(layout: Layout): Promise<number> {
  const path = layout.newStaging()
  return translateErrorsOf('the staging place', async () => {
    const fd = await open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    try {
      return (await fstat(fd)).mtimeMs
    } finally {
      close(fd)
      await unlink(path)
    }
  })
}
