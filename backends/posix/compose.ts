import { existsSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { type Static, Type } from '@sinclair/typebox'
import type { Backend } from '../backend.ts'
import type { CreateContext } from '../definition.ts'
import { createPosixBackend } from './backend.ts'
import { requirePrograms } from './extended.ts'
import { requireSync } from './flush.ts'
import { Layout } from './layout.ts'
import type { Parts } from './parts.ts'
import { tryOwnership } from './trial.ts'

export { translateErrors, translateErrorsOf } from './errno.ts'
export type { Homes } from './folders.ts'
export { type Layout, placesOf } from './layout.ts'
export type { Parts } from './parts.ts'
export { homeOf, ownStaging, ownTrash, ownUploads } from './places.ts'
export { removeTrees } from './remove.ts'
export { stagedAmount } from './staging.ts'

const Mode = Type.String({ pattern: '^0?[0-7]{3,4}$', description: 'an octal mode, such as "0640"' })

/** The one above means that nothing changes (chown(2)). */
const id = { minimum: 0, maximum: 2 ** 32 - 2 }

/** The options of every volume on a filesystem. */
export const posixProperties = {
  root: Type.String({ minLength: 1, description: 'an absolute directory; it is created when it does not exist' }),
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

export interface Composition {
  /** Each vfolder has places of its own: see `Layout`. For a storage that limits a directory, or counts what is in it. */
  ownPlaces?: boolean
  parts?(layout: Layout): Promise<Parts>
  /**
   * Tries what the parts need of the storage, once that is there.
   * @throws when the storage cannot do it; the service then does not start
   */
  tryStorage?(layout: Layout): Promise<void>
}

/** A volume on a filesystem: posix, plus what its storage does better. */
export async function createVolume(
  { options, isKnown }: Pick<CreateContext<Static<typeof PosixOptions>>, 'options' | 'isKnown'>,
  { ownPlaces, parts, tryStorage }: Composition = {},
): Promise<Backend> {
  const { root, uid, gid, fileMode = '0644', directoryMode = '0755', extended = false } = options
  if (process.platform !== 'linux') throw new Error('a volume on a filesystem needs Linux: it relies on /proc/self/fd')
  if (!isAbsolute(root)) throw new Error('root must be an absolute directory')
  const ownership = {
    uid,
    gid,
    fileMode: Number.parseInt(fileMode, 8),
    directoryMode: Number.parseInt(directoryMode, 8),
    extended,
  }
  if (extended) await requirePrograms()
  await requireSync()
  const layout = await Layout.create(root, { isKnown, ownPlaces })
  await tryOwnership(layout, ownership)
  // Without its places it is not mounted, as the health of the volume tells.
  if (existsSync(layout.folders)) await tryStorage?.(layout)
  return createPosixBackend(layout, ownership, await parts?.(layout))
}
