import { Type } from '@sinclair/typebox'
import { Bytes } from './schemas.ts'

/** What is answered about a file that was uploaded. */
export const StoredFileBody = Type.Object({
  path: Type.String(),
  size: Bytes,
  sha256: Type.String({ description: 'hexadecimal, of the bytes as they came' }),
})
