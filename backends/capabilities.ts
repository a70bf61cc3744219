import type { Backend } from './backend.ts'

/** The optional members of `Backend`, in the order in which the API lists them. */
export const capabilities = [
  'readMany',
  'copy',
  'clone',
  'usage',
  'symlink',
  'capacity',
  'presign',
  'presignUpload',
  'mount',
  'readIdentity',
  'writeIdentity',
  'listFolders',
] as const satisfies (keyof Backend)[]
export type Capability = (typeof capabilities)[number]

export function capabilitiesOf(backend: Backend): Capability[] {
  return capabilities.filter((capability) => backend[capability] !== undefined)
}

/** A backend that has the capability. */
export type Capable<C extends Capability> = Backend & Required<Pick<Backend, C>>

export function hasCapability<C extends Capability>(backend: Backend, capability: C): backend is Capable<C> {
  return backend[capability] !== undefined
}
