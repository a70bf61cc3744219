import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { parseVfid } from '../../../lib/vfid.ts'
import { tellAudit } from '../named.ts'
import { parseEntryPath } from '../relpath.ts'
import { Flag, ofVfolder, readFlag } from '../schemas.ts'
import { findVfolder } from '../target.ts'
import { withoutDirectories } from './entries.ts'
import { isNoop } from './noop.ts'

const Clone = Type.Object({
  src_volume: Type.String(),
  src_vfid: Type.String(),
  dst_volume: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  dst_vfid: Type.String(),
})

/** What a job does. The ID of the job is what the manager knows as `bgtask_id`. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  const deletion = { config: { audit: 'folder.delete' }, schema: { body: ofVfolder({}) } } as const
  app.post('/folder/delete', deletion, async ({ body }, reply) => {
    const { folder, quotaScope } = parseVfid(body.vfid)
    // The manager waits for the event at the end of the job, also where there is nothing to delete.
    const volume = isNoop(body.volume, app) ? undefined : app.volumes.get(body.volume)
    const job = await app.vfolders.removeIfPresent(folder, volume, quotaScope)
    return reply.code(202).send({ bgtask_id: job.id })
  })

  const clone = { config: { audit: 'folder.clone' }, schema: { body: Clone } } as const
  app.post('/folder/clone', clone, async (request) => {
    const { body, abortSignal } = request
    tellAudit(request, { outcome: 'begun' })
    const source = await findVfolder(app, body.src_volume, parseVfid(body.src_vfid, 'src_vfid'))
    const volume = app.volumes.get(body.dst_volume ?? body.src_volume)
    const { folder, quotaScope } = parseVfid(body.dst_vfid, 'dst_vfid')
    const quota = { bytes: null, files: null }
    if (quotaScope !== null) await app.quotas.scopes.add(quotaScope, quota)
    const target = { id: folder, volume, quota, quotaScope, metadata: {} }
    // With its usage of now, which decides whether there is room.
    const { job } = await app.vfolders.clone(await app.vfolders.readyNow(source.id), target, abortSignal)
    return { bgtask_id: job.id }
  })

  app.post(
    '/folder/file/delete-async',
    {
      bodyLimit: 16 * 1024 * 1024,
      config: { audit: 'entry.delete' },
      schema: { body: ofVfolder({ relpaths: Type.Array(Type.String()), recursive: Flag(false) }) },
    },
    async (request, reply) => {
      const { body, abortSignal: signal } = request
      tellAudit(request, { outcome: 'begun' })
      const recursive = readFlag(body.recursive, 'recursive')
      const named = [...new Set(body.relpaths.map(parseEntryPath))]
      if (isNoop(body.volume, app)) {
        const job = await app.background.deleteNothing(parseVfid(body.vfid).folder)
        return reply.code(202).send({ bgtask_id: job.id })
      }
      const { id } = await findVfolder(app, body.volume, body.vfid)
      const paths = recursive ? named : await withoutDirectories(await app.vfolders.files(id), named, signal)
      const job = await app.background.delete(id, { paths, recursive, permanent: false })
      return reply.code(202).send({ bgtask_id: job.id })
    },
  )
}

export default routes
