import { createHash, Hash } from 'node:crypto'
import { LruMap as Cache } from 'toad-cache'
import type { Backend } from '../../../backends/backend.ts'
import { createSha256, type Sha256 } from '../../../lib/hashing/sha256.ts'
import type { UploadRow } from './rows.ts'

/** The hash of the bytes so far. One on the thread, for an upload that comes in one go, cannot be copied. */
type Running = Hash | Sha256

/** The digest of a whole upload is made at once, since the hash has a place on the thread until then. */
type Kept = Hash | Promise<Buffer>

/**
 * The running SHA-256 of uploads that this process has seen from their first byte on. Where it is not at hand, after a
 * restart or when another process had a part of it, the staged bytes are read at the end.
 */
export function createHashes() {
  const running = new Cache<{ offset: number; hash: Kept }>(1000)

  return {
    /** A hash to go on with, apart from the one that is kept; undefined when there is none for this offset. */
    at({ id, kind, size }: UploadRow, offset: number, bytes: number | undefined): Running | undefined {
      // Only the final upload becomes a file.
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

/** Called for bytes that will not count. */
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
