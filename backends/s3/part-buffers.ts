import { Pool } from '../pool.ts'

/** The memory that parts of uploads gather in. */
export class PartBuffers extends Pool<Buffer> {
  readonly bytes: number

  constructor(bytes: number, limit: number) {
    super(() => Buffer.allocUnsafeSlow(bytes), limit)
    this.bytes = bytes
  }
}
