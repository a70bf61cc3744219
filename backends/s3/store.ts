import type { Turns } from '../turns.ts'
import type { Bucket } from './bucket.ts'
import type { Presigner } from './client.ts'
import type { Conditions } from './conditions.ts'
import type { Keys } from './layout.ts'
import type { PartBuffers } from './parts.ts'

/** What nobody has touched for so many intervals is garbage. */
export const touchesPerIdle = 4

/** What the operations of the backend work with. */
export interface Store {
  bucket: Bucket
  keys: Keys
  buffers: PartBuffers
  conditions: Conditions
  presigner: Presigner
  /** A larger object is copied by parts of so many bytes. */
  copyPartBytes: number
  /** What is at work touches what it has in the bucket at least so often, so that the cleanup leaves it alone. */
  touchMilliseconds: number
  turns: Turns
}
