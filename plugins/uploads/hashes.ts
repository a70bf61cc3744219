import { createHash, type Hash } from 'node:crypto'
import { LruMap as Cache } from 'toad-cache'
import type { Backend } from '../../backends/backend.ts'
import type { UploadRow } from './rows.ts'

/**
 * The running SHA-256 of uploads that this process has seen from their first byte on. Where it is not at hand, after a
 * restart or when another process had a part of it, the staged bytes are read at the end.
 */
export function createHashes() {
  const running = new Cache<{ offset: number; hash: Hash }>(1000)

  return {
    /** A hash to go on with, that leaves the one kept as it is; undefined when there is none for this offset. */
    at(id: string, offset: number): Hash | undefined {
      if (offset === 0) return createHash('sha256')
      const kept = running.get(id)
      return kept?.offset === offset ? kept.hash.copy() : undefined
    },

    keep(id: string, offset: number, hash: Hash | undefined): void {
      if (hash !== undefined) running.set(id, { offset, hash })
    },

    forget: (id: string): void => running.delete(id),

    /** In hexadecimal, of all of an upload's bytes. */
    async digest(row: UploadRow, backend: Backend, signal: AbortSignal): Promise<string> {
      const hash = this.at(row.id, row.offset) ?? (await hashStaged(row, backend, signal))
      return hash.digest('hex')
    },
  }
}

async function hashStaged({ vfolder, id, offset }: UploadRow, backend: Backend, signal: AbortSignal): Promise<Hash> {
  const hash = createHash('sha256')
  const file = await backend.readUpload(vfolder, id, { signal })
  try {
    for await (const chunk of file.chunks({ start: 0, end: offset })) hash.update(chunk)
  } finally {
    file.close()
  }
  return hash
}
