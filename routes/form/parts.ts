import type { FastifyRequest } from 'fastify'

/** What separates the parts of a form, from its `Content-Type`; empty when that names none. */
export function boundaryOf({ headers }: FastifyRequest): string {
  const match = /;\s*boundary=(?:"([^"]*)"|([^\s;]*))/i.exec(headers['content-type'] ?? '')
  return match?.[1] ?? match?.[2] ?? ''
}

const dashes = Buffer.from('--')

/**
 * Counts the parts of a form as its bytes come, by the delimiters that the parser goes by (RFC 2046, section 5.1.1):
 * some parts it passes over without a word.
 */
export function countedParts(request: FastifyRequest): () => number {
  const { raw } = request
  const delimiter = Buffer.from(`\r\n--${boundaryOf(request)}`, 'latin1')
  // Two more bytes tell the delimiter that begins a part from the last one, which ends in dashes.
  const length = delimiter.length + dashes.length
  let parts = 0
  // The first delimiter may stand at the very beginning.
  let tail: Buffer = Buffer.from('\r\n')

  /** Gives whether the last delimiter is in these bytes. One that is not whole there is found with the next ones. */
  const count = (bytes: Buffer): boolean => {
    for (let at = bytes.indexOf(delimiter); at >= 0; at = bytes.indexOf(delimiter, at + 1)) {
      if (at + length > bytes.length) return false
      if (bytes.subarray(at + delimiter.length, at + length).equals(dashes)) return true
      parts++
    }
    return false
  }
  const look = (chunk: Buffer) => {
    const seam = Buffer.concat([tail, chunk.subarray(0, length - 1)])
    if (count(seam) || count(chunk)) raw.off('data', look)
    tail = (chunk.length < length ? seam : chunk).subarray(1 - length)
  }
  raw.on('data', look)
  return () => parts
}
