/**
 * The memory that downloads read into and uploads gather in. A large buffer makes a fast stream, but a client that does
 * not go on holds on to its two, so the large ones are limited: when all are out, a stream gets small ones, and a large
 * one again for a later chunk once others have given theirs back.
 */
const largeBytes = 1024 * 1024
const smallBytes = 64 * 1024
const largeLimit = 24

const large: Buffer[] = []
const small: Buffer[] = []
let largeMade = 0

export function acquireBuffer(): Buffer {
  const free = large.pop()
  if (free !== undefined) return free
  if (largeMade < largeLimit) {
    largeMade++
    return Buffer.allocUnsafeSlow(largeBytes)
  }
  return small.pop() ?? Buffer.allocUnsafeSlow(smallBytes)
}

/** Whether all of the memory that `chunk` is in is one of the large ones. */
export function isLarge({ buffer, byteLength }: Buffer): boolean {
  return byteLength === largeBytes && buffer.byteLength === largeBytes
}

export function releaseBuffer(buffer: Buffer): void {
  if (buffer.length === largeBytes) large.push(buffer)
  else if (small.length < largeLimit) small.push(buffer)
}

/**
 * Frees the memory of a chunk that nobody else has a part of, at once: tens of MiB of it would pile up before the garbage
 * collector saw a reason to.
 */
export function free({ buffer, byteLength }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}
