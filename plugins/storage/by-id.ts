import { LruMap as Cache } from 'toad-cache'
import type { Backend } from '../../backends/backend.ts'
import { NotFound } from '../../backends/errors.ts'

/** The quota scope of a vfolder, which it has for as long as it lives; undefined when there is no such vfolder. */
export type FindScope = (id: string) => Promise<string | null | undefined>

/** A vfolder of an ID may be deleted, and made in another scope, by another process. */
const cacheMilliseconds = 1000

/** What is not about a vfolder. */
const passing = new Set<string | symbol>([
  'limits',
  'collectGarbage',
  'health',
  'close',
  'capacity',
  'readIdentity',
  'writeIdentity',
  'listFolders',
  'folderOf',
] satisfies (keyof Backend)[])

/** Those of a vfolder that is not there succeed. */
const forgiving = new Set<string | symbol>(['removeFolder', 'abortUpload'] satisfies (keyof Backend)[])

const trashSuffix = '.trash'

/**
 * Lets a vfolder be called by its ID where the storage keeps vfolders by their quota scopes: only who lists the storage,
 * or makes or looks for what no row knows yet, calls it by its name there.
 */
export function byId(backend: Backend, findScope: FindScope): Backend {
  const { folderOf, trash } = backend
  if (folderOf === undefined) return backend
  const scopes = new Cache<string | null>(10_000, cacheMilliseconds)

  async function scopeOf(id: string): Promise<string | null | undefined> {
    const known = scopes.get(id)
    if (known !== undefined) return known
    const scope = await findScope(id)
    if (scope !== undefined) scopes.set(id, scope)
    return scope
  }

  /** The name on the storage; undefined when there is none. */
  async function find(folder: string): Promise<string | undefined> {
    if (folder.includes('/')) return folder
    const isTrash = folder.endsWith(trashSuffix)
    const id = isTrash ? folder.slice(0, -trashSuffix.length) : folder
    const scope = await scopeOf(id)
    const name = scope === undefined ? undefined : folderOf?.call(backend, id, scope)
    return name !== undefined && isTrash ? trash?.call(backend, name) : name
  }

  async function get(folder: unknown): Promise<string> {
    const name = typeof folder === 'string' ? await find(folder) : undefined
    if (name === undefined) throw new NotFound('the vfolder does not exist')
    return name
  }

  /** The arguments of a call, with the vfolders by their names. */
  async function rename(member: string | symbol, [folder, ...rest]: unknown[]): Promise<unknown[]> {
    if (member === 'clone') return [await get(folder), await get(rest[0]), ...rest.slice(1)]
    const options = rest.at(-1)
    const toFolder = hasTarget(options) ? { ...options, toFolder: await get(options.toFolder) } : options
    return [await get(folder), ...rest.slice(0, -1), ...(rest.length > 0 ? [toFolder] : [])]
  }

  return new Proxy(backend, {
    get(_, member) {
      const own: unknown = Reflect.get(backend, member)
      if (passing.has(member) || typeof own !== 'function') return own
      if (member === 'trash') return (folder: string) => `${folder}${trashSuffix}`
      if (member === 'list' || member === 'listMany') {
        return async function* (...args: unknown[]) {
          yield* Reflect.apply(own, backend, await rename(member, args))
        }
      }
      return async (...args: unknown[]) => {
        if (forgiving.has(member) && (await find(String(args[0]))) === undefined) return undefined
        return Reflect.apply(own, backend, await rename(member, args))
      }
    },
  })
}

function hasTarget(options: unknown): options is { toFolder: string } {
  return options instanceof Object && 'toFolder' in options && options.toFolder !== undefined
}
