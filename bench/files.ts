import { randomFillSync } from 'node:crypto'
import { open } from 'node:fs/promises'

/** A file whose blocks are all on the disk, so that reading it is not reading a hole. */
export async function fileOf(path: string, bytes: number): Promise<void> {
  const block = randomFillSync(Buffer.alloc(Math.min(bytes, 1024 * 1024)))
  const handle = await open(path, 'w')
  try {
    for (let left = bytes; left > 0; left -= block.length) await handle.write(block, 0, Math.min(left, block.length))
  } finally {
    await handle.close()
  }
}
