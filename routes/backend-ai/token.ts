import { createHmac, timingSafeEqual } from 'node:crypto'
import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import { Problem } from '../../lib/problems.ts'
import { keyIdOf } from '../../plugins/access/signed-urls.ts'

/** What every token says besides. */
const common = {
  volume: Type.String(),
  /** Seconds since 1970, up to the last that a `Date` can have. */
  exp: Type.Integer({ minimum: 0, maximum: 8_640_000_000_000 }),
  /** Ours: the request that asked for the token. */
  request_id: Type.Optional(Type.String()),
}

const DownloadClaims = Type.Object({
  op: Type.Literal('download'),
  vfid: Type.String(),
  relpath: Type.String(),
  ...common,
})
const UploadClaims = Type.Object({
  op: Type.Literal('upload'),
  vfid: Type.String(),
  relpath: Type.String(),
  size: Type.Integer({ minimum: 0 }),
  /** Names the upload: 32 hexadecimal digits. */
  session: Type.String(),
  ...common,
})
const ArchiveClaims = Type.Object({
  operation: Type.Literal('download'),
  virtual_folder_id: Type.String(),
  files: Type.Array(Type.String(), { minItems: 1 }),
  filename: Type.Union([Type.String(), Type.Null()]),
  ...common,
})

const kinds = { download: DownloadClaims, upload: UploadClaims, archive: ArchiveClaims }
const checks = {
  download: TypeCompiler.Compile(DownloadClaims),
  upload: TypeCompiler.Compile(UploadClaims),
  archive: TypeCompiler.Compile(ArchiveClaims),
}

/** What the holder of a token may do; the members are Backend.AI's. */
export type Claims = { [Use in keyof typeof kinds]: Static<(typeof kinds)[Use]> }
export type Use = keyof Claims

/** A token that is to be believed. */
export interface Verified<U extends Use> {
  claims: Claims[U]
  /** The ID of the key that signed it. */
  key: string
}

/** Keeps what these tokens are signed for apart from signed URLs. */
const purpose = 'backend-ai'

const header = encode({ alg: 'HS256', typ: 'JWT' })

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

/**
 * The tokens that Backend.AI's manager hands to clients, who only give them back. With `BACKEND_AI_TOKEN_SECRET` they are
 * JWTs by HS256 (RFC 7519), which a storage-proxy of Backend.AI with the same secret takes, as this one takes its tokens;
 * otherwise the keys of signed URLs sign them.
 */
export function createTokens(app: FastifyInstance, now = () => Date.now()) {
  const secrets = app.config.backendAi?.tokenSecrets
  const seal = secrets === undefined ? (claims: object) => app.signedUrls.seal(purpose, claims) : jwtSigner(secrets)
  const unseal = secrets === undefined ? sealOpener(app.signedUrls) : jwtVerifier(secrets)

  return {
    sign<U extends Use>(_use: U, claims: Claims[U]): string {
      return seal(claims)
    },

    /** @throws {Problem} `token_required`, `token_invalid`, `token_expired` or `token_not_for_this` */
    verify<U extends Use>(use: U, token: string | undefined): Verified<U> {
      if (token === undefined || token === '') throw new Problem('token_required', 'This URL needs its token.')
      const { claims, key } = unseal(token) ?? {}
      if (claims === undefined || key === undefined) {
        throw new Problem('token_invalid', 'The token was not signed here, or was altered, or its key is retired.')
      }
      if (!isFor(use, claims)) throw new Problem('token_not_for_this', `The token does not permit ${use}.`)
      if (now() >= claims.exp * 1000) {
        throw new Problem('token_expired', `The token was valid until ${new Date(claims.exp * 1000).toISOString()}.`)
      }
      return { claims, key }
    },
  }
}

export type Tokens = ReturnType<typeof createTokens>

function isFor<U extends Use>(use: U, claims: unknown): claims is Claims[U] {
  return checks[use].Check(claims)
}

/** What a token says, and the ID of the key that signed it. */
type Opened = { claims: unknown; key: string }

/** Its key is named in front of it. */
function sealOpener(signedUrls: FastifyInstance['signedUrls']) {
  return (token: string): Opened | undefined => {
    const [key = ''] = token.split('.', 1)
    return { claims: signedUrls.unseal(purpose, token), key }
  }
}

function jwtSigner([secret = '']: string[]) {
  return (claims: object): string => {
    const signed = `${header}.${encode(claims)}`
    return `${signed}.${macOf(secret, signed)}`
  }
}

function jwtVerifier(secrets: string[]) {
  return (token: string): Opened | undefined => {
    const [head = '', payload = '', given = '', ...more] = token.split('.')
    if (more.length > 0 || !isHs256(head)) return undefined
    const received = Buffer.from(given)
    // Compared with all of them, so that the time does not tell which one came close.
    const [match] = secrets.filter((secret) => {
      const expected = Buffer.from(macOf(secret, `${head}.${payload}`))
      return expected.length === received.length && timingSafeEqual(expected, received)
    })
    return match === undefined ? undefined : { claims: decode(payload), key: keyIdOf(match) }
  }
}

/** No other algorithm, above all not `none` (RFC 8725, section 3.1). */
function isHs256(head: string): boolean {
  const { alg } = Object(decode(head))
  return alg === 'HS256'
}

function macOf(secret: string, signed: string): string {
  return createHmac('sha256', secret).update(signed).digest('base64url')
}

function decode(part: string): unknown {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString())
  } catch {
    return undefined
  }
}
