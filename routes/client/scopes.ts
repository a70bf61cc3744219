import { type Static, type TProperties, Type } from '@sinclair/typebox'
import type { FastifyInstance, FastifyRequest, RouteGenericInterface } from 'fastify'
import { setActor } from '../../lib/context.ts'
import { keyOf, type Permission } from '../../plugins/access/signed-urls.ts'
import { ProblemDocument } from '../../plugins/request/errors.ts'
import { setOriginRequestId } from '../../plugins/request/request-id.ts'
import type { Named, UploadRow } from '../../plugins/vfolders/uploads/rows.ts'
import { ref } from '../schemas.ts'

const isGuarded = Symbol('is guarded')

/** As its row was when the token was verified. */
type BegunUpload = Named & { row: UploadRow }

declare module 'fastify' {
  interface FastifyInstance {
    /** The routes of this scope and of those below it are verified. */
    [isGuarded]?: true
  }
  interface FastifyRequest {
    /** What the signed URL permits. */
    permission: Permission | null
    /** The upload that the token is for. */
    upload: BegunUpload | null
  }
}

/** What mail programs, social networks and campaigns add to any link that is passed on. It changes nothing here. */
const addedToLinks =
  '^(utm_[a-z_]+|fbclid|gclid|dclid|gbraid|wbraid|gad_[a-z]+|srsltid|msclkid|yclid|twclid|ttclid|li_fat_id|igshid|igsh|' +
  'mc_cid|mc_eid|mkt_tok|_ga|_gl|_hsenc|_hsmi|vero_id)$'

/** The query of a guarded route. */
export function signedQuery<T extends TProperties>(more: T) {
  const properties = { token: Type.Optional(Type.String()), ...more }
  return Type.Object(properties, { patternProperties: { [addedToLinks]: {} } })
}

/** What it has at least. */
export const TokenQuery = signedQuery({})

const tooManyRequests = ref(ProblemDocument, {
  description: 'the URL or the address has asked too often, or the URL has too many uploads open',
})

interface WithToken {
  Querystring: Static<typeof TokenQuery>
}
interface AtPath extends WithToken {
  Params: { folder: string; '*': string }
}
interface Download extends AtPath {
  Querystring: WithToken['Querystring'] & { archive?: string }
}
interface OfUpload extends WithToken {
  Params: { upload: string }
}

/** Signed downloads, and archives where the URL asks for one. */
export function guardDownloads(app: FastifyInstance): void {
  guard<Download>(app, async (request) => {
    const { folder, '*': path } = request.params
    const { token, archive } = request.query
    const operation = archive === undefined ? 'download' : 'archive'
    await permit(request, token, app.signedUrls.verify(token, { operation, folder, path }))
    if (operation === 'archive') request.auditFacts = { action: 'archive.read' }
  })
}

/** Signed uploads to the path of the URL. */
export function guardUploads(app: FastifyInstance): void {
  guard<AtPath>(app, async (request) => {
    const { folder, '*': path } = request.params
    const { token } = request.query
    await permit(request, token, app.signedUrls.verify(token, { operation: 'upload', folder, path }))
  })
}

/** Signed uploads to a path that stands only in the token. */
export function guardCreation(app: FastifyInstance): void {
  guard<WithToken>(app, async (request) => {
    const { token } = request.query
    const permission = app.signedUrls.permission(token, 'upload')
    await permit(request, token, permission)
    request.auditFacts = { folder: permission.folder, path: permission.path }
  })
}

/** Uploads that were begun, each with a token of its own. */
export function guardBegunUploads(app: FastifyInstance): void {
  guard<OfUpload>(app, async (request) => {
    const named = { id: request.params.upload, token: request.query.token }
    // A close waits for handlers, not for hooks.
    const row = await app.countAsHandler(app.uploads.get(named))
    request.upload = { ...named, row }
    setOriginRequestId(request, row.origin_request_id)
    setActor(`upload:${row.id}`)
    request.auditFacts = { folder: row.vfolder, path: row.path }
    if (row.url_key !== null) await app.requestRates.ofUrl?.(request, row.url_key)
  })
}

async function permit(request: FastifyRequest, token: string | undefined, permission: Permission): Promise<void> {
  request.permission = permission
  setOriginRequestId(request, permission.requestId)
  // Who has the URL is not known; the key that signed it is named in front of its token.
  setActor(`signed-url:${token?.split('.', 1)[0]}`)
  const { ofUrl } = request.server.requestRates
  if (ofUrl !== undefined) await ofUrl(request, keyOf(permission))
}

/** Runs after the check of the schema, so that a wrong URL is refused whatever its token. */
function guard<Route extends RouteGenericInterface>(
  app: FastifyInstance,
  verify: (request: FastifyRequest<Route>) => Promise<void>,
): void {
  app[isGuarded] = true
  app.addHook('onRoute', (route) => {
    if (route.schema === undefined) return
    route.schema.security = [{ signedUrl: [] }]
    route.schema.response = { ...Object(route.schema.response), 429: tooManyRequests }
  })
  app.addHook<Route>('preHandler', verify)
}

/** Fails the start for a route of this scope, or below it, that no guard verifies and that is not one of the open ones. */
export function requireGuards(app: FastifyInstance, open: string[]): void {
  app.decorateRequest('permission', null)
  app.decorateRequest('upload', null)
  app.addHook('onRoute', function ({ method, url, config }) {
    if (config?.tellsMethods) return
    const unguarded = [method].flat().map((one) => `${one} ${url}`)
    if (this[isGuarded] || unguarded.every((route) => open.includes(route))) return
    throw new Error(`${unguarded.join(', ')} must be in a scope with a guard of routes/client/scopes.ts`)
  })
}

/** What the URL of this request permits. */
export function permissionOf({ permission }: FastifyRequest): Permission {
  if (permission === null) throw new Error('no guard has verified a signed URL')
  return permission
}

/** The upload that this request is about. */
export function uploadOf({ upload }: FastifyRequest): BegunUpload {
  if (upload === null) throw new Error('no guard has verified the token of an upload')
  return upload
}
