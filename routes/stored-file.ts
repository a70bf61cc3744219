import { Type } from '@sinclair/typebox'
import { Bytes } from './schemas.ts'

/** The answer about a file that was uploaded. */
export const StoredFileBody = Type.Object({
  path: Type.String({ examples: ['data/train.csv'] }),
  size: Bytes,
  sha256: Type.String({
    description: 'hexadecimal, of the bytes as they came',
    examples: ['2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'],
  }),
})
