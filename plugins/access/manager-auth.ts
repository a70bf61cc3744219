import { join } from 'node:path'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { setActor } from '../../lib/context.ts'
import { Problem } from '../../lib/problems.ts'
import type { ManagerToken } from '../config.ts'
import { readOrGenerateSecret } from './generated-secret.ts'
import { createSecretSearch, digestOf } from './secrets.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook for the scope of the manager's routes. */
    requireManager: (request: FastifyRequest) => Promise<void>
    /**
     * The same for pages, which a browser shows: it asks its user for the token, as the password of any name. Only for
     * calls that change nothing, since a browser sends what it was told also with what other pages have it send.
     */
    requireManagerOrAsk: (request: FastifyRequest) => Promise<void>
  }
}

/** RFC 9110, section 11.4. */
const credentials = /^bearer +([^ ]+)$/i

/** One that nobody has named is known by a part of its digest, as keys are. */
function actorOf({ name, token }: ManagerToken): string {
  return `manager:${name ?? digestOf(`token ID of ${token}`).toString('base64url').slice(0, 8)}`
}

const basic = 'Basic realm="a manager token as the password"'

/** RFC 7617: a name, a colon, and the password. */
function passwordIn(authorization: string): string | undefined {
  const encoded = /^basic +([^ ]+)$/i.exec(authorization)?.[1] ?? ''
  return /^[^:]*:(.+)$/.exec(Buffer.from(encoded, 'base64').toString())?.[1]
}

function createManagerAuth(tokens: ManagerToken[], { asks }: { asks: boolean }) {
  const find = createSecretSearch(tokens.map((token) => ({ secret: token.token, actor: actorOf(token) })))
  const headers = { 'www-authenticate': asks ? `Bearer, ${basic}` : 'Bearer' }

  return async (request: FastifyRequest): Promise<void> => {
    const { authorization = '' } = request.headers
    const bearer = credentials.exec(authorization)?.[1]
    const token = bearer ?? (asks ? passwordIn(authorization) : undefined)
    if (token === undefined) {
      throw new Problem('token_required', 'The manager API needs "Authorization: Bearer TOKEN".', { headers })
    }
    const match = find(token)
    if (match === undefined) throw new Problem('token_invalid', 'The manager token is not one of ours.', { headers })
    setActor(match.actor)
  }
}

/** Bearer tokens of the manager (RFC 6750); several are accepted at once, for rotation. */
export default fp(
  async (app) => {
    const file = join(app.config.dataDir, 'manager-token')
    const tokens = app.config.managerTokens ?? [
      { name: undefined, token: await readOrGenerateSecret('MANAGER_TOKENS', file) },
    ]
    if (app.config.managerTokens === undefined) app.log.info({ file }, 'the manager token is in this file')
    app.decorate('requireManager', createManagerAuth(tokens, { asks: false }))
    app.decorate('requireManagerOrAsk', createManagerAuth(tokens, { asks: true }))
  },
  { name: 'manager-auth', dependencies: ['config'] },
)
