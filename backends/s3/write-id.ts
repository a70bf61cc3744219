import type { DescribedObject } from './bucket.ts'

/**
 * Metadata of each object that is written: which write it comes from. A command whose answer was lost is sent again, and
 * then may find that it has had its effect: its precondition fails, or its multipart upload is gone, by its own doing.
 */
const writeIdName = 'write'

export const writeMetadata = (id: string) => ({ [writeIdName]: id })

export function isOf(object: DescribedObject | undefined, id: string): boolean {
  return object?.metadata[writeIdName] === id
}
