import { createHash, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../../lib/problems.ts'
import { readOrGenerateSecret } from './generated-secret.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook for the scope of the manager's routes. */
    requireManager: ReturnType<typeof createManagerAuth>
  }
}

/** RFC 9110, section 11.4. */
const credentials = /^bearer +([^ ]+)$/i

/** Digests have the same length whatever was sent, which `timingSafeEqual` needs. */
function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

function createManagerAuth(tokens: string[]) {
  const accepted = tokens.map(digest)
  const headers = { 'www-authenticate': 'Bearer' }

  return async (request: FastifyRequest): Promise<void> => {
    const token = credentials.exec(request.headers.authorization ?? '')?.[1]
    if (token === undefined) {
      throw new Problem('token_required', 'The manager API needs "Authorization: Bearer TOKEN".', { headers })
    }
    const given = digest(token)
    // Compared with all of them, so that the time does not tell which one came close.
    const matches = accepted.filter((candidate) => timingSafeEqual(candidate, given))
    if (matches.length === 0) throw new Problem('token_invalid', 'The manager token is not one of ours.', { headers })
  }
}

/** Bearer tokens of the manager (RFC 6750); several are accepted at once, for rotation. */
export default fp(
  async (app) => {
    const file = join(app.config.dataDir, 'manager-token')
    const tokens = app.config.managerTokens ?? [await readOrGenerateSecret('MANAGER_TOKENS', file)]
    if (app.config.managerTokens === undefined) app.log.info({ file }, 'the manager token is in this file')
    app.decorate('requireManager', createManagerAuth(tokens))
  },
  { name: 'manager-auth', dependencies: ['config'] },
)
