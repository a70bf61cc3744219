import { invalid } from './problems.ts'

/** A vfolder as Backend.AI names it: the scope that it is in, and its ID. */
export interface Vfid {
  /** The vfolder's ID: a UUID in lower case with dashes. */
  folder: string
  /** `user:UUID` or `project:UUID`, in lower case with dashes; null: a vfolder without a scope. */
  quotaScope: string | null
}

const hex = '[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}'
const scopePattern = new RegExp(`^(user|project):(${hex})$`, 'i')
const folderPattern = new RegExp(`^${hex}$`, 'i')

/**
 * Reads `user:UUID/HEX` or `project:UUID/HEX`, and the `HEX` of old vfolders that have no scope. The case of letters and
 * the dashes of the UUIDs do not matter.
 * @throws {Problem} `validation_failed`, naming `field`
 */
export function parseVfid(text: string, field = 'vfid'): Vfid {
  const [first = '', second, ...more] = text.split('/')
  const folder = second ?? first
  if (more.length > 0 || !folderPattern.test(folder)) {
    throw invalid('body', field, 'must be user:UUID/HEX or project:UUID/HEX, where HEX is the UUID of a vfolder')
  }
  return { folder: toUuid(folder), quotaScope: second === undefined ? null : parseQuotaScope(first, field) }
}

/** Reads `user:UUID` or `project:UUID`. @throws as `parseVfid` does */
export function parseQuotaScope(text: string, field: string): string {
  const [, type, id] = scopePattern.exec(text) ?? []
  if (type === undefined || id === undefined)
    throw invalid('body', field, 'must have the scope user:UUID or project:UUID')
  return `${type.toLowerCase()}:${toUuid(id)}`
}

/** As Backend.AI writes it: the scope's UUID with dashes, the vfolder's without. */
export function formatVfid({ folder, quotaScope }: Vfid): string {
  const id = folder.replaceAll('-', '')
  return quotaScope === null ? id : `${quotaScope}/${id}`
}

export function toUuid(text: string): string {
  const digits = text.replaceAll('-', '').toLowerCase()
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
