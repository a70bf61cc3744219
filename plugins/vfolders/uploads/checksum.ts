import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { Problem } from '../../../lib/problems.ts'

/** Algorithms of the tus extension "checksum"; it asks for SHA-1 at least. */
export const checksumAlgorithms = ['sha1', 'sha256', 'sha512', 'md5', 'crc32']

export interface Checksum {
  update(chunk: Buffer): void
  /** @throws {Problem} `checksum_mismatch` */
  verify(): void
}

export function createChecksum(algorithm: string, expected: Buffer): Checksum {
  const hash = algorithm === 'crc32' ? createCrc32() : createHash(algorithm)
  return {
    update(chunk) {
      hash.update(chunk)
    },
    verify() {
      if (hash.digest().equals(expected)) return
      throw new Problem('checksum_mismatch', `The ${algorithm} of the bytes that came is another; they are discarded.`)
    },
  }
}

/** Four bytes, the most significant one first. */
function createCrc32() {
  let value = 0
  return {
    update(chunk: Buffer): void {
      value = crc32(chunk, value)
    },
    digest(): Buffer {
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32BE(value)
      return bytes
    },
  }
}
