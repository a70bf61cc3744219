import { Problem } from '../lib/problems.ts'

/** A position in a list, which a client gives back as it got it. */
export function toCursor(position: string): string {
  return Buffer.from(position).toString('base64url')
}

/** @throws {Problem} `invalid_cursor` */
export function fromCursor(cursor: string): string {
  const position = Buffer.from(cursor, 'base64url').toString()
  if (position === '' || position.includes('\0') || toCursor(position) !== cursor) {
    throw new Problem('invalid_cursor', 'cursor must be a nextCursor of an earlier answer')
  }
  return position
}
