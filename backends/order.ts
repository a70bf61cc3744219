import type { Entry } from './backend.ts'

/**
 * An entry's place in a listing: its path, a directory's with a trailing `/`, so that a directory stands right before
 * its contents. Two keys compare by their UTF-8 bytes.
 */
export function orderKey(entry: Pick<Entry, 'path' | 'type'>): string {
  return entry.type === 'directory' ? `${entry.path}/` : entry.path
}

/**
 * Compares by UTF-8 bytes, as `memcmp` would. UTF-16 order, which `<` uses, differs only where a surrogate meets a
 * code unit above the surrogates: there the surrogate stands for the larger code point.
 */
export function compareBytes(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    const unitA = a.charCodeAt(index)
    const unitB = b.charCodeAt(index)
    if (unitA !== unitB) return codePointRank(unitA) - codePointRank(unitB)
  }
  return a.length - b.length
}

function codePointRank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit
}

/** Sorts by UTF-8 bytes, in place. Without a surrogate UTF-16 order is the same, and sorted several times as fast. */
export function sortBytes(strings: string[]): void {
  if (strings.some((string) => /[\ud800-\udfff]/.test(string))) strings.sort(compareBytes)
  else strings.sort()
}
