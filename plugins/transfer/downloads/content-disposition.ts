import { encodeExtended } from 'content-disposition'

/**
 * The header field that names a file (RFC 6266). Browsers and wget read `filename*`. curl reads only `filename`, takes
 * its bytes as they are and knows no escapes, so there it stands in UTF-8 and a quote becomes an apostrophe.
 */
export function contentDisposition(disposition: 'attachment' | 'inline', filename: string): string {
  const plain = filename.replaceAll(/["\\]/g, "'").replaceAll(/\p{Cc}/gu, '_')
  const header = `${disposition}; filename="${plain}"`
  return /^[\w .,;()+=@~-]+$/.test(filename) ? header : `${header}; filename*=${encodeExtended(filename)}`
}

/** node:http writes a header field byte by byte from Latin-1, so this one comes out as UTF-8. */
export function asHeader(text: string): string {
  return Buffer.from(text).toString('latin1')
}
