import type { FastifyRequest } from 'fastify'

const dashes = Buffer.from('--')
const endOfHeaders = Buffer.from('\r\n\r\n')
/** Longer headers of a part are refused by the parser. */
const longestHeaders = 128 * 1024

/** What the parser does not tell about a form: it skips some parts silently, and knows no sizes beforehand. */
export interface Outline {
  /** How many parts have begun. */
  parts(): number
  /**
   * How many bytes of files the form announces, to be asked when its first part has begun: all of the body but the
   * headers of that part and the end of the form. That is exact for one file, a little more than the truth for several,
   * and 0 when the request does not say its size.
   */
  announcedBytes(): number
}

/** Follows a form's bytes as they come, by the delimiters that the parser goes by (RFC 2046, section 5.1.1). */
export function followOutline({ raw, headers }: FastifyRequest): Outline {
  const delimiter = Buffer.from(`\r\n--${boundaryOf(headers['content-type'] ?? '')}`, 'latin1')
  const total = Number(headers['content-length'] ?? 0)
  const end = delimiter.length + '--\r\n'.length
  const parts = countDelimiters(delimiter)
  const firstHeaders = findEndOfHeaders()

  const look = (chunk: Buffer) => {
    firstHeaders.look(chunk)
    if (parts.look(chunk) === 'ended') raw.off('data', look)
  }
  raw.on('data', look)
  return {
    parts: parts.count,
    announcedBytes: () => Math.max(0, total - firstHeaders.end() - end),
  }
}

/** What separates the parts of a form; empty when its type names none. */
function boundaryOf(contentType: string): string {
  const match = /;\s*boundary=(?:"([^"]*)"|([^\s;]*))/i.exec(contentType)
  return match?.[1] ?? match?.[2] ?? ''
}

function countDelimiters(delimiter: Buffer) {
  // Two more bytes tell the delimiter that begins a part from the last one, which ends in dashes.
  const length = delimiter.length + dashes.length
  let begun = 0
  // The first delimiter may stand at the very beginning.
  let tail: Buffer = Buffer.from('\r\n')

  /** Gives whether the last delimiter is in these bytes. One that is not whole there is found with the next bytes. */
  const findIn = (bytes: Buffer): boolean => {
    for (let at = bytes.indexOf(delimiter); at >= 0; at = bytes.indexOf(delimiter, at + 1)) {
      if (at + length > bytes.length) return false
      if (bytes.subarray(at + delimiter.length, at + length).equals(dashes)) return true
      begun++
    }
    return false
  }
  return {
    count: () => begun,
    look(chunk: Buffer): 'ended' | 'going on' {
      const seam = Buffer.concat([tail, chunk.subarray(0, length - 1)])
      if (findIn(seam) || findIn(chunk)) return 'ended'
      tail = (chunk.length < length ? seam : chunk).subarray(1 - length)
      return 'going on'
    },
  }
}

/** Where in the body the headers of the first part end; 0 while that is not known. */
function findEndOfHeaders() {
  let head: Buffer | undefined = Buffer.alloc(0)
  let end = 0
  return {
    end: () => end,
    look(chunk: Buffer): void {
      if (head === undefined) return
      head = Buffer.concat([head, chunk])
      const found = head.indexOf(endOfHeaders)
      if (found >= 0) end = found + endOfHeaders.length
      if (found >= 0 || head.length > longestHeaders) head = undefined
    },
  }
}
