import { Type } from '@sinclair/typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { EntryPath } from '../../../backends/path.ts'
import { setActor } from '../../../lib/context.ts'
import { digestOf } from '../../../plugins/access/secrets.ts'
import { setOriginRequestId } from '../../../plugins/request/request-id.ts'
import type { Facts } from '../../../plugins/work/audit/facts.ts'
import { tellAudit } from '../named.ts'
import { parseRelpath } from '../relpath.ts'
import { readFlag } from '../schemas.ts'
import type { Claims, Tokens, Use } from '../token.ts'

/** Links are passed on, and grow: what is not known, or is empty, is passed over. */
export const ClientQuery = Type.Record(Type.String(), Type.String())

type Query = Record<string, string>

/**
 * Verifies the tokens of a scope before its handlers, and tells the audit trail what they name, by `factsOf`.
 * @returns what tells a handler what the token of its request permits
 */
export function guard<U extends Use>(
  app: FastifyInstance,
  tokens: Tokens,
  use: U,
  factsOf: (claims: Claims[U], query: Query) => Partial<Facts>,
): (request: FastifyRequest) => Claims[U] {
  const permitted = new WeakMap<FastifyRequest, Claims[U]>()
  app.addHook<{ Querystring: Query }>('preHandler', async (request) => {
    const { query } = request
    const { claims, key } = tokens.verify(use, query.token)
    permitted.set(request, claims)
    if (claims.request_id !== undefined) setOriginRequestId(request, claims.request_id)
    // Who has the token is not known, as with a signed URL.
    setActor(`backend-ai-token:${key}`)
    tellAudit(request, { volume: claims.volume, ...factsOf(claims, query) })
    const { ofUrl } = app.requestRates
    if (ofUrl !== undefined) await ofUrl(request, digestOf(`token ${query.token}`).toString('base64url'))
  })
  return (request) => {
    const claims = permitted.get(request)
    if (claims === undefined) throw new Error('no guard has verified the token')
    return claims
  }
}

/** The path of the token, in the directory that the client names. @throws {InvalidPath} when it leads out of the vfolder */
export function placeOf(relpath: string, directory = ''): EntryPath | '' {
  return parseRelpath(directory === '' ? relpath : `${directory}/${relpath}`)
}

/** A parameter that is absent, or empty, is false. */
export function flagOf(query: Record<string, string>, name: string): boolean {
  return readFlag(query[name] || false, name, 'querystring')
}
