import { dirname, isAbsolute, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Static, Type } from '@sinclair/typebox'
import type { Backend } from '../backend.ts'
import type { CreateContext } from '../definition.ts'
import { createPosixBackend } from './backend.ts'
import { requirePrograms } from './extended.ts'
import { requireSync } from './flush.ts'
import { Layout, placesOf } from './layout.ts'
import { createOnMount } from './mount/create.ts'
import type { Parts } from './parts.ts'
import { tryOwnership } from './trial.ts'

export { translateErrors, translateErrorsOf } from './errno.ts'
export { access, lstat, mkdir, readdir, shareOf, statfs } from './files.ts'
export type { Homes } from './folders.ts'
export { type Layout, placesOf } from './layout.ts'
export { mountPointOf } from './mounts.ts'
export type { Parts } from './parts.ts'
export { homeOf, ownStaging, ownTrash, ownUploads } from './places.ts'
export { removeTrees } from './remove.ts'
export { stagedAmount } from './staging.ts'

const Mode = Type.String({ pattern: '^0?[0-7]{3,4}$', description: 'an octal mode, such as "0640"' })

/** The one above means that nothing changes (chown(2)). */
const id = { minimum: 0, maximum: 2 ** 32 - 2 }

/** How long a start looks where a mount is: one that hangs is taken for the place below it. */
const lookMilliseconds = 1000

/** See `places` of a definition. */
export async function placesOfVolume({ root, mount = false }: Static<typeof PosixOptions>): Promise<string[]> {
  if (mount === false) return placesOf(root)
  const late = sleep(lookMilliseconds, undefined, { ref: false })
  return (
    (await Promise.race([placesOf(root), late])) ?? [...(await placesOf(dirname(mount === true ? root : mount))), root]
  )
}

/** The options of every volume on a filesystem. */
export const posixProperties = {
  root: Type.String({ minLength: 1, description: 'an absolute directory; it is created when it does not exist' }),
  mount: Type.Optional(
    Type.Union([Type.Boolean(), Type.String({ minLength: 1 })], {
      description: 'whether a filesystem must be mounted on the root, or on which directory above it',
    }),
  ),
  uid: Type.Optional(Type.Integer({ ...id, description: 'owner of what is created; needs CAP_CHOWN' })),
  gid: Type.Optional(Type.Integer({ ...id, description: 'group of what is created' })),
  fileMode: Type.Optional({ ...Mode, default: '0644' }),
  directoryMode: Type.Optional({ ...Mode, default: '0755' }),
  extended: Type.Optional(
    Type.Boolean({
      default: false,
      description: 'keep and inherit ACLs and extended attributes, by getfattr and setfattr',
    }),
  ),
}
const PosixOptions = Type.Object(posixProperties)

/** Where a vfolder is a plain directory. */
export const layoutProperty = {
  layout: Type.Optional(
    Type.Literal('backend-ai', { description: 'vfolders are where Backend.AI has them: SCOPE/3f/a1/REST' }),
  ),
}

export interface Composition {
  /** Each vfolder has places of its own: see `Layout`. For a storage that limits a directory, or counts what is in it. */
  ownPlaces?: boolean
  /** vfolders are where Backend.AI has them: see `Layout`. */
  byScope?: boolean
  /**
   * Of a volume on a guarded mount it is asked for each mount, and first for a root that may not be mounted: which parts
   * there are must not depend on that, so it tries nothing of the storage.
   */
  parts?(layout: Layout): Promise<Parts>
  /**
   * Tries what the parts need of the storage, once that is there.
   * @throws when the storage cannot do it; the service then does not start
   */
  tryStorage?(layout: Layout): Promise<void>
  /** Puts something around the backend on a root. */
  wrap?(backend: Backend, layout: Layout): Backend
  /** See `Layout`; with `mountTypes`. */
  isNfs?: boolean
  /**
   * The mount is always guarded: the root must be on a filesystem of one of these types, as proc_pid_mountinfo(5) has
   * them.
   */
  mountTypes?: readonly string[]
}

/** A volume on a filesystem: posix, plus what its storage does better. */
export async function createVolume(
  { options, isKnown, timeoutSeconds, log }: Omit<CreateContext<Static<typeof PosixOptions>>, 'idleSeconds' | 'signal'>,
  { ownPlaces = false, byScope = false, isNfs = false, parts, tryStorage, wrap, mountTypes }: Composition = {},
): Promise<Backend> {
  const { root, uid, gid, fileMode = '0644', directoryMode = '0755', extended = false, mount = false } = options
  if (process.platform !== 'linux') throw new Error('a volume on a filesystem needs Linux: it relies on /proc/self/fd')
  if (!isAbsolute(root)) throw new Error('root must be an absolute directory')
  if (typeof mount === 'string' && !isWithin(root, mount))
    throw new Error('mount must be true, or the root or a directory above it')
  const ownership = {
    uid,
    gid,
    fileMode: Number.parseInt(fileMode, 8),
    directoryMode: Number.parseInt(directoryMode, 8),
    extended,
  }
  if (extended) await requirePrograms()
  await requireSync()
  const tryAll = async (layout: Layout) => {
    await tryOwnership(layout, ownership)
    await tryStorage?.(layout)
  }
  const createBackend = async (layout: Layout) => {
    const backend = createPosixBackend(layout, ownership, await parts?.(layout))
    return wrap?.(backend, layout) ?? backend
  }
  if (mount !== false || mountTypes !== undefined) {
    const point = mount === true ? root : mount || undefined
    const place = { root, point, types: mountTypes, ownPlaces, byScope, isNfs, isKnown }
    return createOnMount({ ...place, timeoutSeconds, log, tryAll, createBackend })
  }
  const layout = await Layout.create(root, { isKnown, ownPlaces, byScope })
  await tryAll(layout)
  return createBackend(layout)
}

function isWithin(path: string, directory: string): boolean {
  return `${join(path, '/')}`.startsWith(join(directory, '/'))
}
