import { createHash } from 'node:crypto'
import { createSha256 } from './hashing/sha256.ts'
import { invalidHeader, Problem } from './problems.ts'

/** What the bytes of a body must hash to. */
export interface Expected {
  /** The header that says so. */
  header: string
  algorithm: 'sha256' | 'sha512'
  value: Buffer
}

/** Names of RFC 9530, section 5, that are not deprecated. */
const algorithms = new Map<string, { algorithm: Expected['algorithm']; bytes: number }>([
  ['sha-256', { algorithm: 'sha256', bytes: 32 }],
  ['sha-512', { algorithm: 'sha512', bytes: 64 }],
])

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
/** A member of a dictionary of structured fields whose value is a byte sequence (RFC 9651, sections 3.2 and 3.3.5). */
const member = new RegExp(
  `^[ \\t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):(?:; *${token}(?:=${token})?)*[ \\t]*$`,
)

/**
 * Reads `Content-Digest` and `Repr-Digest` (RFC 9530): for a body that is stored as it comes, both are about the same
 * bytes. Unknown algorithms are ignored.
 * @throws {Problem} `invalid_header`
 */
export function readExpectedDigests(headers: Record<string, string | string[] | undefined>): Expected[] {
  return ['content-digest', 'repr-digest'].flatMap((header) => {
    const value = headers[header]
    if (value === undefined) return []
    return [value]
      .flat()
      .join(',')
      .split(',')
      .flatMap((text) => parseMember(header, text))
  })
}

function parseMember(header: string, text: string): Expected[] {
  const [, name = '', base64 = ''] = member.exec(text) ?? []
  if (name === '') throw invalidHeader(header, 'must be members such as sha-256=:BASE64:, separated by commas')
  const known = algorithms.get(name)
  if (known === undefined) return []
  const value = Buffer.from(base64, 'base64')
  if (value.length !== known.bytes || value.toString('base64') !== base64) {
    throw invalidHeader(header, `must have ${known.bytes} bytes in base64 as ${name}`)
  }
  return [{ header, algorithm: known.algorithm, value }]
}

/**
 * Hashes bytes on their way: always with SHA-256, and with each algorithm that was announced. The caller must `end` it.
 */
export function createDigests(expected: Expected[] = [], expectedBytes?: number) {
  const sha256 = createSha256(expectedBytes)
  const sha512 = expected.some(({ algorithm }) => algorithm === 'sha512') ? createHash('sha512') : undefined
  return {
    /** A promise when the caller is faster than the hash. */
    update(chunk: Buffer): Promise<void> | undefined {
      sha512?.update(chunk)
      return sha256.update(chunk)
    },

    /** To be called once, after the last chunk. @throws {Problem} `digest_mismatch` */
    async verified(): Promise<{ sha256: string }> {
      const digests = { sha256: await sha256.digest(), sha512: sha512?.digest() }
      for (const { header, algorithm, value } of expected) {
        if (digests[algorithm]?.equals(value)) continue
        const detail = `The ${algorithm} of the bytes that came is not what ${header} says.`
        throw new Problem('digest_mismatch', detail, { members: { header, sha256: digests.sha256.toString('hex') } })
      }
      return { sha256: digests.sha256.toString('hex') }
    },

    end: (): void => sha256.forget(),
  }
}
