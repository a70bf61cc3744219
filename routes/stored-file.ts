import { Type } from '@sinclair/typebox'
import { Bytes } from './schemas.ts'

/** The answer about a file that was uploaded. */
export const StoredFileBody = Type.Object({
  path: Type.String(),
  size: Bytes,
  sha256: Type.String({ description: 'hexadecimal, of the bytes as they came' }),
})
