/**
 * The memory that downloads read into and uploads gather in. A large buffer makes a fast stream, but a stalled client
 * keeps its two, so the large ones are limited: when all are out, a stream gets small ones, and a large one again for a
 * later chunk once others have given theirs back.
 */
const largeBytes = 1024 * 1024
const smallBytes = 64 * 1024
const largeLimit = 24

const large: Buffer[] = []
const small: Buffer[] = []
let largeMade = 0

/** `small` is for holders that keep it for long. */
export function acquireBuffer(wanted: 'large' | 'small' = 'large'): Buffer {
  const free = wanted === 'large' ? large.pop() : undefined
  if (free !== undefined) return free
  if (wanted === 'large' && largeMade < largeLimit) {
    largeMade++
    return Buffer.allocUnsafeSlow(largeBytes)
  }
  return small.pop() ?? Buffer.allocUnsafeSlow(smallBytes)
}

const givable = new WeakSet<Buffer>()

/** Lets the receiver of a large buffer take its memory, and give that back by `releaseBuffer`. */
export function allowTaking(buffer: Buffer): Buffer {
  if (buffer.length === largeBytes) givable.add(buffer)
  return buffer
}

/** Not by its size: a chunk of a file that is read looks the same, and stays its reader's. */
export function mayTake(buffer: Buffer): boolean {
  return givable.has(buffer)
}

/** A buffer whose memory was taken has nothing left. */
export function releaseBuffer(buffer: Buffer): void {
  givable.delete(buffer)
  if (buffer.length === largeBytes) large.push(buffer)
  else if (buffer.length === smallBytes && small.length < largeLimit) small.push(buffer)
}

/** Counts a buffer as lost whose memory went with the thread that had it: another one may be made in its place. */
export function loseBuffer(bytes: number): void {
  if (bytes === largeBytes) largeMade--
}

/**
 * Frees the memory of a chunk at once, of which nobody else has a part: otherwise tens of MiB would pile up before the
 * garbage collector saw a reason to run.
 */
export function free({ buffer, byteLength }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0)
}
