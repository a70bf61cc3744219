import { createHash, Hash } from 'node:crypto'
import { LruMap as Cache } from 'toad-cache'
import type { Backend } from '../../../backends/backend.ts'
import { createSha256, type Sha256 } from '../../../lib/hashing/sha256.ts'
import type { UploadRow } from './rows.ts'

/** Of the bytes so far: one that can be copied, or for an upload that comes in one go, one on the thread. */
type Running = Hash | Sha256

/** The digest of the whole is made at once: until then it takes a place on the thread. */
type Kept = Hash | Promise<Buffer>

/**
 * The running SHA-256 of uploads that this process has seen from their first byte on. Where it is not at hand, after a
 * restart or when another process had a part of it, the staged bytes are read at the end.
 */
export function createHashes() {
  const running = new Cache<{ offset: number; hash: Kept }>(1000)

  return {
    /** A hash to go on with, that leaves the one kept as it is; undefined when there is none for this offset. */
    at({ id, kind, size }: UploadRow, offset: number, bytes: number | undefined): Running | undefined {
      // Only of the final one is there a file.
      if (kind === 'partial') return undefined
      if (offset === 0) return bytes === size ? createSha256(bytes) : createHash('sha256')
      const kept = running.get(id)
      return kept?.offset === offset && kept.hash instanceof Hash ? kept.hash.copy() : undefined
    },

    keep(id: string, offset: number, hash: Running | undefined): void {
      if (hash === undefined) return
      const kept = hash instanceof Hash ? hash : hash.digest()
      if (kept instanceof Promise) kept.catch(() => {}) // Read again when it is asked for.
      running.set(id, { offset, hash: kept })
    },

    forget(id: string): void {
      running.delete(id)
    },

    /** In hexadecimal, of all of an upload's bytes. */
    async digest(row: UploadRow, backend: Backend, signal: AbortSignal): Promise<string> {
      const kept = running.get(row.id)
      if (kept?.offset !== row.offset) return hashStaged(row, backend, signal)
      if (kept.hash instanceof Hash) return kept.hash.copy().digest('hex')
      const digest = await kept.hash.catch(() => undefined)
      return digest?.toString('hex') ?? hashStaged(row, backend, signal)
    },
  }
}

/** For bytes that will not count. */
export function forgetHash(hash: Running | undefined): void {
  if (hash !== undefined && !(hash instanceof Hash)) hash.forget()
}

async function hashStaged({ vfolder, id, offset }: UploadRow, backend: Backend, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  const file = await backend.readUpload(vfolder, id, { signal })
  try {
    for await (const chunk of file.chunks({ start: 0, end: offset })) hash.update(chunk)
  } finally {
    file.close()
  }
  return hash.digest('hex')
}
