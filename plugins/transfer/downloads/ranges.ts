/** Bytes from `start` up to and without `end`. */
export interface ByteRange {
  start: number
  end: number
}

/** More ranges than a sincere client asks for (RFC 9110, section 14.2 allows to ignore such a header). */
const maxRanges = 64

/**
 * Reads a `Range` header (RFC 9110, section 14.1).
 * @returns the ranges that the file has, in the order asked for, or an empty list when none of them can be satisfied;
 *   undefined when the header is to be ignored: it is absent, not about bytes, malformed or excessive
 */
export function parseRange(header: string | undefined, size: number): ByteRange[] | undefined {
  const specs = /^bytes=(.+)$/i.exec(header ?? '')?.[1]?.split(',')
  if (specs === undefined || specs.length > maxRanges) return undefined
  // Elements of a list may be empty (RFC 9110, section 5.6.1.2).
  const given = specs.filter((spec) => spec.trim() !== '')
  if (given.length === 0) return undefined

  const ranges: ByteRange[] = []
  for (const spec of given) {
    const match = /^\s*(\d*)-(\d*)\s*$/.exec(spec)
    if (match === null) return undefined
    const [, first = '', last = ''] = match
    if (first === '' && last === '') return undefined
    if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined

    const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
    const end = first === '' || last === '' ? size : Math.min(Number(last) + 1, size)
    if (start < end) ranges.push({ start, end })
  }

  const total = ranges.reduce((sum, { start, end }) => sum + end - start, 0)
  return ranges.length > 1 && total > size ? undefined : ranges
}

/** Where a part's bytes are, for `Content-Range`. */
export function contentRange({ start, end }: ByteRange, size: number): string {
  return `bytes ${start}-${end - 1}/${size}`
}
