import { keyOf, type Permission } from './signed-urls.ts'

/** How fast all transfers that have the same key may be together. */
export interface Rate {
  key: string
  bytesPerSecond: number
}

/** The rate of a signed URL, which all connections that use it share. */
export function rateOf(permission: Permission): Rate | undefined {
  const { bytesPerSecond } = permission
  if (bytesPerSecond === undefined) return undefined
  return { key: keyOf(permission), bytesPerSecond }
}
