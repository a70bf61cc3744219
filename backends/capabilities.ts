import type { Backend } from './backend.ts'

/** Optional members of `Backend`, in the order in which the API lists them. */
export const capabilities = [
  'listMany',
  'readMany',
  'copy',
  'copyTree',
  'clone',
  'count',
  'usage',
  'quota',
  'symlink',
  'capacity',
  'presign',
  'presignUpload',
  'mount',
  'trash',
] as const satisfies (keyof Backend)[]
export type Listed = (typeof capabilities)[number]

/** Those by which the service knows a volume, and its vfolders, again. Callers have no use for them, so the API does not list them. */
export const recognition = [
  'readIdentity',
  'writeIdentity',
  'listFolders',
  'folderOf',
] as const satisfies (keyof Backend)[]

/** All optional members. */
export const optionalMembers = [...capabilities, ...recognition]
export type Capability = (typeof optionalMembers)[number]

export function capabilitiesOf(backend: Backend): Listed[] {
  return capabilities.filter((capability) => hasCapability(backend, capability))
}

/** A backend that has the capability. */
export type Capable<C extends Capability> = Backend & Required<Pick<Backend, C>>

export function hasCapability<C extends Capability>(backend: Backend, capability: C): backend is Capable<C> {
  return backend[capability] !== undefined
}
