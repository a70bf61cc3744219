import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { invalid } from '../../lib/problems.ts'
import { requireCapability, type Volume } from '../storage/volumes.ts'
import { hasEnded, type Job } from '../work/job-queue/job.ts'
import type { Orphan } from './orphans.ts'

declare module 'fastify' {
  interface FastifyInstance {
    adoptions: ReturnType<typeof createAdoptions>
  }
}

/** Which vfolders of a volume are adopted that keeps them by quota scopes; of any other all are. */
export const Adoption = Type.Object({
  quotaScopes: Type.Optional(Type.Array(Type.String())),
  /** What a scope is that is not among these. */
  otherScopes: Type.Optional(Type.Union([Type.Literal('user'), Type.Literal('project')])),
})
export type Adoption = typeof Adoption.static

function createAdoptions(app: FastifyInstance) {
  return {
    /**
     * Queues the job that makes vfolders of all orphans of a volume, or finds the one that does.
     * @throws {Problem} `validation_failed`, `capability_missing`, `volume_unavailable`
     */
    async start(volume: Volume, adoption: Adoption, signal: AbortSignal): Promise<Job> {
      requireCapability(volume, 'listFolders')
      chooseScopes(volume, adoption)
      await volume.identity.look()
      await volume.backend.health({ signal })
      const last = await app.jobs.latest('adopt-vfolders', { volume: volume.name })
      if (last !== undefined && !hasEnded(last)) return last
      return app.jobs.enqueue({
        kind: 'adopt-vfolders',
        folder: null,
        volume: volume.name,
        payload: { volume: volume.name, ...adoption },
      })
    },
  }
}

/**
 * Tells the quota scope of an orphan: null where its volume knows none, undefined where nobody said what its scope is.
 * @throws {Problem} `validation_failed` for a scope that the volume cannot have, or two that it cannot tell apart
 */
export function chooseScopes(
  { backend, name: volume }: Volume,
  { quotaScopes = [], otherScopes }: Adoption,
): (orphan: Orphan) => string | null | undefined {
  const { folderOf } = backend
  if (folderOf === undefined) return () => null
  const nameOf = (id: string, scope: string) => folderOf.call(backend, id, scope)
  const chosen = new Map<string, string>()
  for (const quotaScope of quotaScopes) {
    const name = nameOf('', quotaScope)
    if (name === undefined)
      throw invalid('body', 'quotaScopes', `has ${quotaScope}, which volume ${volume} cannot have`)
    const other = chosen.get(name)
    if (other !== undefined && other !== quotaScope) {
      throw invalid(
        'body',
        'quotaScopes',
        `has ${other} and ${quotaScope}, which are one directory on volume ${volume}`,
      )
    }
    chosen.set(name, quotaScope)
  }
  return ({ id, scope }) => {
    const named = chosen.get(`${scope}/`)
    if (named !== undefined || otherScopes === undefined) return named
    const quotaScope = `${otherScopes}:${scope}`
    return nameOf(id, quotaScope) === `${scope}/${id}` ? quotaScope : undefined
  }
}

/** Takes over a volume that others have filled. */
export default fp(
  async (app) => {
    app.decorate('adoptions', createAdoptions(app))
  },
  { name: 'adoptions', dependencies: ['volumes', 'job-queue'] },
)
