import { createHash, timingSafeEqual } from 'node:crypto'

/** Digests have the same length whatever was sent, which `timingSafeEqual` needs. */
export function digestOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

/** Finds which of these secrets was sent, without its time telling how close it came. */
export function createSecretSearch<T extends { secret: string }>(secrets: T[]): (given: string) => T | undefined {
  const accepted = secrets.map((one) => ({ one, digest: digestOf(one.secret) }))
  return (text) => {
    const given = digestOf(text)
    // Compared with all of them, so that the time does not tell which one came close.
    return accepted.filter(({ digest }) => timingSafeEqual(digest, given))[0]?.one
  }
}

/** Tells whether what was sent is one of these secrets. */
export function createSecretCheck(secrets: string[]): (given: string) => boolean {
  const find = createSecretSearch(secrets.map((secret) => ({ secret })))
  return (given) => find(given) !== undefined
}
