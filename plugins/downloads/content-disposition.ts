import { encodeExtended } from 'content-disposition'

/**
 * The header that names a file (RFC 6266). Browsers and wget read `filename*`. curl reads only `filename`, takes its
 * bytes as they are and knows no escapes, so there it stands in UTF-8 and a quote becomes an apostrophe.
 */
export function contentDisposition(disposition: 'attachment' | 'inline', filename: string): string {
  const plain = filename.replaceAll(/["\\]/g, "'").replaceAll(/\p{Cc}/gu, '_')
  // A header field is written byte by byte from Latin-1 (node:http), so these come out as UTF-8.
  const header = `${disposition}; filename="${Buffer.from(plain).toString('latin1')}"`
  return /^[\w .,;()+=@~-]+$/.test(filename) ? header : `${header}; filename*=${encodeExtended(filename)}`
}
