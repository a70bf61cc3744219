import type { Bucket } from './bucket.ts'
import type { Conditions } from './conditions.ts'
import type { Keys } from './keys.ts'
import type { PartBuffers } from './part-buffers.ts'
import type { Presigner } from './presign.ts'

/** What the operations of the backend work with. */
export interface Store {
  bucket: Bucket
  keys: Keys
  buffers: PartBuffers
  conditions: Conditions
  presigner: Presigner
  /** A larger object is copied by parts of so many bytes. */
  copyPartBytes: number
}
