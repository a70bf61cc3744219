import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { parseQuotaScope } from '../../../lib/vfid.ts'
import { Refusal } from '../refusal.ts'
import { Limits, readLimit, readSize } from '../schemas.ts'

const OfScope = Type.Object({ volume: Type.String(), qsid: Type.String() })
const NewScope = Type.Object({ ...OfScope.properties, options: Type.Optional(Type.Union([Limits, Type.Null()])) })
/** Without a limit it would say nothing: it is taken away by a call of its own. */
const WithLimits = Type.Object({ ...OfScope.properties, options: Limits })

/** Limits over all vfolders of a user or a project, on whatever volume they are. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  const { scopes } = app.quotas
  const config = { audit: 'quota-scope.set' } as const

  /** @throws {Problem} `volume_not_found` or `validation_failed` */
  function scopeOf({ volume, qsid }: { volume: string; qsid: string }): string {
    app.volumes.get(volume)
    return parseQuotaScope(qsid, 'qsid')
  }

  app.post('/quota-scope', { config, schema: { body: NewScope } }, async ({ body }, reply) => {
    const bytes = readLimit(body.options?.limit_bytes, 'options.limit_bytes')
    if (!(await scopes.add(scopeOf(body), { bytes, files: null }))) {
      const msg = 'The quota scope exists already.'
      throw new Refusal('invalid_operation', msg, { status: 409, body: { msg }, mediaType: 'application/json' })
    }
    return reply.code(204).send()
  })

  app.get('/quota-scope', { exposeHeadRoute: false, schema: { body: OfScope } }, async ({ body }) => {
    const { usage, quota } = await scopes.getNamed(scopeOf(body))
    return { used_bytes: usage.bytes, limit_bytes: quota.bytes }
  })

  app.patch('/quota-scope', { config, schema: { body: WithLimits } }, async ({ body }, reply) => {
    const bytes = readSize(body.options.limit_bytes, 'options.limit_bytes')
    const scope = scopeOf(body)
    if (!(await scopes.add(scope, { bytes, files: null }))) await scopes.change(scope, { bytes })
    return reply.code(204).send()
  })

  app.delete('/quota-scope/quota', { config, schema: { body: OfScope } }, async ({ body }, reply) => {
    await scopes.change(scopeOf(body), { bytes: null })
    return reply.code(204).send()
  })
}

export default routes
