import { isAbsolute } from 'node:path'
import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { defineBackend } from '../definition.ts'
import { createPosixBackend } from './backend.ts'
import { requireSync } from './flush.ts'
import { Layout, placesOf } from './layout.ts'
import { tryOwnership } from './trial.ts'

const Mode = Type.String({ pattern: '^0?[0-7]{3,4}$', description: 'an octal mode, such as "0640"' })

/** The one above means that nothing changes (chown(2)). */
const id = { minimum: 0, maximum: 2 ** 32 - 2 }

export const posixOptions = Type.Object(
  {
    root: Type.String({ minLength: 1, description: 'an absolute directory; it is created when it does not exist' }),
    uid: Type.Optional(Type.Integer({ ...id, description: 'owner of what is created; needs CAP_CHOWN' })),
    gid: Type.Optional(Type.Integer({ ...id, description: 'group of what is created' })),
    fileMode: Type.Optional({ ...Mode, default: '0644' }),
    directoryMode: Type.Optional({ ...Mode, default: '0755' }),
  },
  { additionalProperties: false },
)

/** A local or mounted filesystem with POSIX semantics on Linux: ext4, XFS, Btrfs, CephFS, NFS. */
export const posix = defineBackend({
  type: 'posix',
  options: posixOptions,
  places: ({ root }) => placesOf(root),
  async create({ options: { root, uid, gid, fileMode = '0644', directoryMode = '0755' }, isKnown }) {
    if (process.platform !== 'linux') throw new Error('the posix backend needs Linux: it relies on /proc/self/fd')
    if (!isAbsolute(root)) throw new Error('root must be an absolute directory')
    const ownership = {
      uid,
      gid,
      fileMode: Number.parseInt(fileMode, 8),
      directoryMode: Number.parseInt(directoryMode, 8),
    }
    await requireSync()
    const layout = await Layout.create(root, { isKnown })
    await tryOwnership(layout, ownership)
    return createPosixBackend(layout, ownership)
  },
})

export default fp(async (app) => app.backends.register(posix), { name: 'backend-posix', dependencies: ['backends'] })
