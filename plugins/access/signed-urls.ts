import { createHash, createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { deflateSync, inflateSync } from 'node:zlib'
import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import fp from 'fastify-plugin'
import { LruMap as Cache } from 'toad-cache'
import { Problem } from '../../lib/problems.ts'
import { readOrGenerateSecret } from './generated-secret.ts'

declare module 'fastify' {
  interface FastifyInstance {
    signedUrls: ReturnType<typeof createSignedUrls>
  }
}

/** What a token permits, and until when. */
export const Permission = Type.Object({
  operation: Type.Union([Type.Literal('download'), Type.Literal('upload'), Type.Literal('archive')]),
  folder: Type.String(),
  /** Of an archive: the entry, or the directory of the entries; empty for the vfolder. */
  path: Type.String(),
  /** Of an archive of some of the entries in a directory: their paths in it. */
  names: Type.Optional(Type.Array(Type.String())),
  /** Of an archive: the directory that the names in it are relative to; empty for the vfolder. */
  base: Type.Optional(Type.String()),
  /** Seconds since 1970. */
  expiresAt: Type.Integer(),
  /** The request that signed. */
  requestId: Type.String(),
  filename: Type.Optional(Type.String()),
  disposition: Type.Optional(Type.Union([Type.Literal('attachment'), Type.Literal('inline')])),
  /** Of each file that is uploaded. */
  maxBytes: Type.Optional(Type.Integer({ minimum: 0 })),
  /** A form has one file, which becomes the path; otherwise the path is the directory of its files. */
  onlyFile: Type.Optional(Type.Boolean()),
  /** How many uploads that it has begun may be open. */
  maxUploads: Type.Optional(Type.Integer({ minimum: 1 })),
  /** Of all transfers by this URL together, in one process. */
  bytesPerSecond: Type.Optional(Type.Integer({ minimum: 1 })),
})
export type Permission = Static<typeof Permission>

/** For a URL that does not say it: more than a client has at a time, and too few to fill the database or the volume. */
export const defaultMaxUploads = 1000

/** Names a signed URL among all others. */
export function keyOf(permission: Permission): string {
  return createHash('sha256').update(JSON.stringify(permission)).digest('base64url')
}

const isPermission = TypeCompiler.Compile(Permission)

/** Larger permissions, which are those with many names, are deflated. */
const maxPlainBytes = 1024
/** Longer tokens are not cached: they are opened once or twice, and take the room of many short ones. */
const maxCachedLength = 2048

interface Key {
  id: string
  secret: KeyObject
}

/** A part of its digest, so keys need no names when they are rotated. */
export function keyIdOf(secret: string): string {
  return createHash('sha256').update(`key ID of ${secret}`).digest('base64url').slice(0, 8)
}

function toKey(secret: string): Key {
  return { id: keyIdOf(secret), secret: createSecretKey(secret, 'utf8') }
}

/**
 * Tokens `KEY.PERMISSION.MAC`: the key's ID, the permission as JSON in base64url, and HMAC-SHA-256 over both. A long
 * permission is deflated first.
 *
 * The clock rule: a token ends at its `expiresAt` by the clock of the process that verifies it, to the second and with
 * no grace; where the clocks of two processes differ, its life differs by as much. So keep them on NTP.
 */
export function createSignedUrls(secrets: string[], now = () => Date.now()) {
  const keys = secrets.map(toKey)
  const [signingKey] = keys
  // A URL is opened again for each range of a file that is resumed or sought in, so its MAC is computed once. A look-up
  // tells nothing about the MAC of another token, since it goes by the hash of the whole token.
  const verified = new Cache<Permission>(10_000)
  if (signingKey === undefined) throw new Error('at least one signing key is needed')

  return {
    /** Every token has that of its key, so they are no secret; the first is of the key that signs. */
    keyIds: keys.map(({ id }) => id),

    sign(permission: Permission): string {
      return seal(signingKey, '', permission)
    },

    /** A token in the same form for anything else than a signed URL; those of one purpose count for no other. */
    seal: (purpose: string, claims: object): string => seal(signingKey, `${purpose}:`, claims),

    /** What such a token says; undefined when it was not made here for that purpose. */
    unseal: (purpose: string, token: string): unknown => unseal(keys, `${purpose}:`, token),

    /**
     * Checks that `token` permits this, now.
     * @throws {Problem} `token_required`, `token_invalid`, `token_expired` or `token_not_for_this`
     */
    verify(token: string | undefined, use: Pick<Permission, 'operation' | 'folder' | 'path'>): Permission {
      const permission = this.permission(token, use.operation)
      if (permission.folder !== use.folder || permission.path !== use.path) {
        throw new Problem('token_not_for_this', 'The token is for another vfolder or path.')
      }
      return permission
    },

    /** What `token` permits, for a caller that learns the vfolder and the path from it. @throws as `verify` does */
    permission(token: string | undefined, operation: Permission['operation']): Permission {
      if (token === undefined || token === '') throw new Problem('token_required', 'This URL needs its token.')
      const permission = verified.get(token) ?? openPermission(keys, token)
      if (permission === undefined) {
        throw new Problem('token_invalid', 'The token was not signed here, or was altered, or its key is retired.')
      }
      if (token.length <= maxCachedLength) verified.set(token, permission)
      if (now() >= permission.expiresAt * 1000) {
        const time = new Date(permission.expiresAt * 1000).toISOString()
        throw new Problem('token_expired', `The token was valid until ${time}.`)
      }
      if (permission.operation !== operation) {
        throw new Problem('token_not_for_this', `The token permits ${permission.operation}, not ${operation}.`)
      }
      return permission
    },
  }
}

function encode(permission: object): Buffer {
  const json = Buffer.from(JSON.stringify(permission))
  return json.length <= maxPlainBytes ? json : deflateSync(json, { level: 9 })
}

/** The first byte of the zlib format (RFC 1950) is never that of a JSON object. */
function decode(payload: Buffer): unknown {
  const json = payload[0] === '{'.charCodeAt(0) ? payload : inflateSync(payload)
  return JSON.parse(json.toString())
}

function computeMac(key: Key, signed: string): Buffer {
  return createHmac('sha256', key.secret).update(signed).digest()
}

/** Its ID has no colon, so no purpose can be taken for a part of it. */
function seal(key: Key, purpose: string, content: object): string {
  const signed = `${key.id}.${encode(content).toString('base64url')}`
  return `${signed}.${computeMac(key, purpose + signed).toString('base64url')}`
}

function openPermission(keys: Key[], token: string): Permission | undefined {
  const permission = unseal(keys, '', token)
  return isPermission.Check(permission) ? permission : undefined
}

function unseal(keys: Key[], purpose: string, token: string): unknown {
  const [id, payload, given, ...rest] = token.split('.')
  const key = keys.find((candidate) => candidate.id === id)
  if (key === undefined || payload === undefined || given === undefined || rest.length > 0) return undefined
  // Compared as text: several texts in base64url stand for the same bytes, and only one of them was given out.
  const expected = Buffer.from(computeMac(key, `${purpose}${id}.${payload}`).toString('base64url'))
  const received = Buffer.from(given)
  if (received.length !== expected.length || !timingSafeEqual(received, expected)) return undefined
  return decode(Buffer.from(payload, 'base64url'))
}

/** Signs and verifies the tokens of signed URLs. */
export default fp(
  async (app) => {
    const { signingKeys, dataDir } = app.config
    const secrets = signingKeys ?? [await readOrGenerateSecret('SIGNING_KEYS', join(dataDir, 'signing-key'))]
    app.decorate('signedUrls', createSignedUrls(secrets))
  },
  { name: 'signed-urls', dependencies: ['config'] },
)
