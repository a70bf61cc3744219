import { Type } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import type { EntryPath } from '../../../backends/path.ts'
import { setOriginRequestId } from '../../../plugins/request/request-id.ts'
import { parseRelpath } from '../relpath.ts'
import { readFlag } from '../schemas.ts'
import type { Claims, Tokens, Use } from '../token.ts'

/** Links are passed on, and grow: what is not known, or is empty, is passed over. */
export const ClientQuery = Type.Record(Type.String(), Type.String())

/** What the token of this request permits. @throws {Problem} `token_required`, `token_invalid` and such */
export function permit<U extends Use>(
  request: FastifyRequest,
  tokens: Tokens,
  use: U,
  token: string | undefined,
): Claims[U] {
  const claims = tokens.verify(use, token)
  if (claims.request_id !== undefined) setOriginRequestId(request, claims.request_id)
  return claims
}

/** The path of the token, in the directory that the client names. @throws {InvalidPath} when it leads out of the vfolder */
export function placeOf(relpath: string, directory = ''): EntryPath | '' {
  return parseRelpath(directory === '' ? relpath : `${directory}/${relpath}`)
}

/** A parameter that is absent, or empty, is false. */
export function flagOf(query: Record<string, string>, name: string): boolean {
  return readFlag(query[name] || false, name, 'querystring')
}
