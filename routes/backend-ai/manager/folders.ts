import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Problem } from '../../../lib/problems.ts'
import { parseVfid } from '../../../lib/vfid.ts'
import { Mode } from '../../manager/folder-schemas.ts'
import { Refusal } from '../refusal.ts'
import { parseRelpath } from '../relpath.ts'
import { ofVfolder, readLimit, Size } from '../schemas.ts'
import { describeVfolder, findVfolder } from '../target.ts'

const Options = Type.Object({
  initial_max_size_for_quota_scope: Type.Optional(Type.Union([Size, Type.Null()])),
})

/** Vfolders: creation, where they are, what they have. `remove-and-clone.ts` has what takes a job. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folder/create',
    {
      config: { audit: 'folder.create' },
      schema: {
        body: ofVfolder({
          options: Type.Optional(Type.Union([Options, Type.Null()])),
          mode: Type.Optional(Type.Union([Mode, Type.Null()])),
        }),
      },
    },
    async ({ body, abortSignal }, reply) => {
      const volume = app.volumes.get(body.volume)
      const { folder, quotaScope } = parseVfid(body.vfid)
      if (quotaScope === null) throw scopeRequired()
      const limit = body.options?.initial_max_size_for_quota_scope
      const bytes = readLimit(limit, 'options.initial_max_size_for_quota_scope')
      // One that is there keeps its limit.
      await app.quotas.scopes.add(quotaScope, { bytes, files: null })
      const quota = { bytes: null, files: null }
      const input = { id: folder, volume, quota, quotaScope, metadata: {}, mode: body.mode ?? undefined }
      const { vfolder } = await app.vfolders.create(input, abortSignal)
      if (vfolder.quotaScope !== quotaScope) {
        throw new Problem('vfolder_exists', `The vfolder ${folder} exists in the scope ${vfolder.quotaScope}.`)
      }
      return reply.code(204).send()
    },
  )

  app.get(
    '/folder/mount',
    { exposeHeadRoute: false, schema: { body: ofVfolder({ subpath: Type.String({ default: '.' }) }) } },
    async ({ body: { volume, vfid, subpath } }) => {
      const vfolder = await findVfolder(app, volume, vfid).catch((error: unknown) => {
        throw isNotFound(error) ? notMounted('VFolder not found', { vfid }) : error
      })
      try {
        parseRelpath(subpath)
      } catch {
        throw notMounted('Invalid vfolder subpath', { vfid, subpath })
      }
      const place = await (await app.vfolders.files(vfolder.id)).mount()
      if (place.type === 'path') return { path: place.path }
      throw new Problem('capability_missing', `Volume ${volume} has no place that a host mounts.`)
    },
  )

  app.get('/folder/usage', { exposeHeadRoute: false, schema: { body: ofVfolder({}) } }, async ({ body }) => {
    const { usage } = await describeVfolder(app, body.volume, body.vfid)
    return { file_count: usage.files, used_bytes: usage.bytes }
  })

  app.get('/folder/used-bytes', { exposeHeadRoute: false, schema: { body: ofVfolder({}) } }, async ({ body }) => {
    const { usage } = await describeVfolder(app, body.volume, body.vfid)
    return { used_bytes: usage.bytes }
  })

  // There is nothing that they would do there.
  for (const method of ['GET', 'POST'] as const) {
    app.route({
      method,
      url: '/folder/metadata',
      exposeHeadRoute: false,
      schema: { body: ofVfolder({}) },
      handler: async ({ body: { volume, vfid } }) => {
        await findVfolder(app, volume, vfid)
        return { status: 'ok' }
      },
    })
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof Problem && (error.code === 'vfolder_not_found' || error.code === 'vfolder_trashed')
}

function scopeRequired(): Refusal {
  const msg = 'quota_scope_id is required for vfid'
  const type = 'https://api.backend.ai/probs/storage/invalid-api-params'
  const body = { type, title: 'Invalid API parameters', error_code: 'vfolder_create_invalid-parameters', msg }
  return new Refusal('validation_failed', msg, { status: 400, body })
}

function notMounted(msg: string, about: Record<string, string>): Refusal {
  const body = { msg, ...about }
  return new Refusal('vfolder_not_found', msg, { status: 400, body, mediaType: 'application/json' })
}

export default routes
