import { compareBytes } from '../../order.ts'

// Sorted names as UTF-8, with a NUL between two: a part of the memory that texts take.

export interface Run {
  bytes: Buffer
  count: number
}

export function runOf(keys: string[]): Run {
  return { bytes: Buffer.from(keys.join('\0')), count: keys.length }
}

/** So many keys are put together before they become bytes again. */
const keysAtOnce = 4096

/** Puts sorted runs together, up to so many keys or so many bytes. */
export function merge(runs: Run[], most: { keys: number; bytes: number }): Run {
  const cursors = runs.filter(({ count }) => count > 0).map(({ bytes }) => new Cursor(bytes))
  cursors.sort((a, b) => compareBytes(b.key, a.key))
  const pieces: Buffer[] = []
  let keys: string[] = []
  let count = 0
  let bytes = 0
  const putDown = () => {
    if (keys.length === 0) return
    const piece = Buffer.from(`${pieces.length === 0 ? '' : '\0'}${keys.join('\0')}`)
    pieces.push(piece)
    bytes += piece.length
    keys = []
  }
  // The least is the last, from where it is taken without moving the others.
  for (let least = cursors.pop(); least !== undefined && count < most.keys && bytes < most.bytes; ) {
    keys.push(least.key)
    count++
    if (keys.length === keysAtOnce) putDown()
    if (least.advance()) insert(cursors, least)
    least = cursors.pop()
  }
  putDown()
  return { bytes: Buffer.concat(pieces), count }
}

/** In the order from the greatest to the least. */
function insert(cursors: Cursor[], cursor: Cursor): void {
  let start = 0
  let end = cursors.length
  while (start < end) {
    const middle = (start + end) >>> 1
    if (compareBytes(cursors[middle]?.key ?? '', cursor.key) > 0) start = middle + 1
    else end = middle
  }
  cursors.splice(start, 0, cursor)
}

/** A place in a run. */
class Cursor {
  key = ''
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
    this.advance()
  }

  /** Goes on to the next key, if there is one. */
  advance(): boolean {
    if (this.#at > this.#bytes.length) return false
    const end = this.#bytes.indexOf(0, this.#at)
    this.key = this.#bytes.toString('utf8', this.#at, end < 0 ? this.#bytes.length : end)
    this.#at = end < 0 ? this.#bytes.length + 1 : end + 1
    return true
  }
}

/** So many keys of a run at a time, still with a NUL between two of them. */
export function* windowsOf({ bytes }: Run, size: number): Generator<string> {
  for (let start = 0; start < bytes.length; ) {
    let end = start
    for (let count = 0; count < size && end < bytes.length; count++) {
      const next = bytes.indexOf(0, end)
      end = next < 0 ? bytes.length + 1 : next + 1
    }
    yield bytes.toString('utf8', start, end - 1)
    start = end
  }
}

export function lastOf({ bytes }: Run): string | undefined {
  return bytes.length === 0 ? undefined : bytes.toString('utf8', bytes.lastIndexOf(0) + 1)
}
