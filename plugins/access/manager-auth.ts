import { join } from 'node:path'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../../lib/problems.ts'
import { readOrGenerateSecret } from './generated-secret.ts'
import { createSecretCheck } from './secrets.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook for the scope of the manager's routes. */
    requireManager: ReturnType<typeof createManagerAuth>
  }
}

/** RFC 9110, section 11.4. */
const credentials = /^bearer +([^ ]+)$/i

function createManagerAuth(tokens: string[]) {
  const isOurs = createSecretCheck(tokens)
  const headers = { 'www-authenticate': 'Bearer' }

  return async (request: FastifyRequest): Promise<void> => {
    const token = credentials.exec(request.headers.authorization ?? '')?.[1]
    if (token === undefined) {
      throw new Problem('token_required', 'The manager API needs "Authorization: Bearer TOKEN".', { headers })
    }
    if (!isOurs(token)) throw new Problem('token_invalid', 'The manager token is not one of ours.', { headers })
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
