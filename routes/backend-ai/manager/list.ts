import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { Entry } from '../../../backends/backend.ts'
import { awaitFirst } from '../../await-first.ts'
import { jsonList } from '../json-list.ts'
import { parseRelpath } from '../relpath.ts'
import { ofVfolder } from '../schemas.ts'
import { openVfolder } from '../target.ts'

/** As st_mode has it (inode(7)): the bits of the type, and of one whose storage keeps no mode the permissions. */
const kinds = {
  file: { type: 'FILE', bits: 0o100000, usual: 0o644 },
  directory: { type: 'DIRECTORY', bits: 0o040000, usual: 0o755 },
  symlink: { type: 'SYMLINK', bits: 0o120000, usual: 0o777 },
} as const

/** Of a directory in the listings of most filesystems. */
const directorySize = 4096

/** What is in a directory, all of it. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folder/file/list',
    { schema: { body: ofVfolder({ relpath: Type.String({ default: '.' }) }) } },
    async ({ body: { volume, vfid, relpath }, abortSignal: signal }, reply) => {
      const files = await openVfolder(app, volume, vfid)
      const path = parseRelpath(relpath)
      const listing = await awaitFirst(files.listMany({ ...(path !== '' && { path }), signal }))
      return reply.type('application/json; charset=utf-8').send(jsonList('items', listing, toItem))
    },
  )
}

function toItem({ path, type, size, mode, modifiedAt, changedAt = modifiedAt, target = '' }: Entry) {
  const kind = kinds[type]
  return {
    name: path.slice(path.lastIndexOf('/') + 1),
    type: kind.type,
    stat: {
      mode: kind.bits | (mode ?? kind.usual),
      size: type === 'directory' ? directorySize : size,
      created: toTime(changedAt),
      modified: toTime(modifiedAt),
    },
    symlink_target: target,
  }
}

/** As Python writes it, and reads it in every version. */
function toTime(time: Date): string {
  return time.toISOString().replace('Z', '000+00:00')
}

export default routes
