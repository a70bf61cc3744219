import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { Entry } from '../../backends/backend.ts'
import { AlreadyExists, IsADirectory, NotFound } from '../../backends/errors.ts'
import type { EntryPath } from '../../backends/path.ts'
import { readExpectedDigests } from '../../lib/digests.ts'
import { invalidHeader, Problem } from '../../lib/problems.ts'
import { rateOf } from '../../plugins/access/rates.ts'
import { bytesBody, requestBody } from '../../plugins/request/openapi-document.ts'
import { requestHeaders, responseHeaders } from '../../plugins/request/openapi-headers.ts'
import { bodyOf } from '../../plugins/transfer/body.ts'
import { isModifiedSince, matches, parseDate, parseTags } from '../../plugins/transfer/downloads/conditions.ts'
import type { VfolderFiles } from '../../plugins/vfolders/files.ts'
import { smallBytes } from '../../plugins/vfolders/write.ts'
import { Path, problemResponses, Uuid } from '../schemas.ts'
import { StoredFileBody } from '../stored-file.ts'
import { guardUploads, permissionOf, TokenQuery } from './scopes.ts'
import { announcedLengthOf, uploadLimitOf } from './upload-limit.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  guardUploads(app)

  // The body is stored as it comes, whatever its type, and nothing here may read it before.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))

  app.put(
    '/:folder/*',
    {
      config: { readsBody: true, audit: 'file.store' },
      schema: {
        tags: ['client'],
        operationId: 'putFile',
        summary: 'Upload a file by a signed URL',
        description:
          'The body, of any media type, becomes the file, whole or not at all; a file of that name is replaced.',
        [requestBody]: bytesBody('*/*', { required: true }),
        [requestHeaders]: [
          'If-None-Match',
          'If-Match',
          'If-Unmodified-Since',
          'Content-Digest',
          'Repr-Digest',
          'Expect',
        ],
        [responseHeaders]: { 200: ['ETag'], 201: ['ETag'] },
        params: Type.Object({ folder: Uuid, '*': Path }),
        querystring: TokenQuery,
        response: { 200: StoredFileBody, 201: StoredFileBody, ...problemResponses },
      },
    },
    async (request, reply) => {
      const { folder, '*': path } = request.params
      const permission = permissionOf(request)
      reply.beginTransfer()
      const { headers, abortSignal: signal } = request
      requireBody(headers)
      refuseUnreadablePreconditions(headers)
      const files = await app.vfolders.files(folder)
      const size = announcedLengthOf(headers)
      const digests = readExpectedDigests(headers)
      const conditions = needsLook(headers, size) ? await checkPreconditions(files, path, headers, signal) : {}

      async function* body() {
        reply.willReadBody()
        const rate = rateOf(permission)
        yield* request.paced(bodyOf(request.raw, { rate }), rate)
      }

      const upload = files.upload({ bytes: size ?? 0, partly: size === undefined }, 'put')
      try {
        const maxBytes = uploadLimitOf(app.config, permission)
        const options = { maxBytes, digests, signal, ...conditions, ...(size !== undefined && { size }) }
        const stored = await upload.write(path, body(), options).catch(throwFailedPrecondition)
        if (stored.entry.etag !== undefined) reply.header('etag', `"${stored.entry.etag}"`)
        return reply.code(stored.replaced === undefined ? 201 : 200).send(stored)
      } finally {
        await upload.end()
      }
    },
  )
}

export default routes

/** One that cannot be read would count as none, and the file would be overwritten. */
function refuseUnreadablePreconditions(headers: IncomingHttpHeaders): void {
  for (const name of ['If-Match', 'If-None-Match']) {
    const value = headers[name.toLowerCase()]
    if (typeof value === 'string' && parseTags(value) === undefined) {
      throw invalidHeader(name, 'must be * or etags in quotes, with commas between them')
    }
  }
  const since = headers['if-unmodified-since']
  if (since !== undefined && parseDate(since) === undefined) {
    throw invalidHeader('If-Unmodified-Since', 'must be an HTTP date, such as Sun, 06 Nov 1994 08:49:37 GMT')
  }
}

/** A body that is neither of a length nor in chunks is none (RFC 9112, section 6.3), and would empty the file. */
function requireBody(headers: IncomingHttpHeaders): void {
  if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) return
  throw new Problem(
    'length_required',
    'A PUT needs Content-Length, which is 0 for an empty file, or Transfer-Encoding.',
  )
}

/** The bytes of a small file are there before a look would have saved them, and the storage refuses as well. */
function needsLook(headers: IncomingHttpHeaders, size: number | undefined): boolean {
  const asked = ['if-match', 'if-none-match', 'if-unmodified-since', 'expect']
  return size === undefined || size > smallBytes || asked.some((name) => headers[name] !== undefined)
}

/** Refuses, before a byte is sent, what cannot succeed; returns the conditions to decide when the file appears. */
async function checkPreconditions(
  files: VfolderFiles,
  path: EntryPath,
  headers: IncomingHttpHeaders,
  signal: AbortSignal,
): Promise<{ ifAbsent?: true; ifMatch?: string }> {
  const { 'if-match': ifMatch, 'if-none-match': ifNoneMatch, 'if-unmodified-since': ifUnmodifiedSince } = headers
  const entry = await files.stat(path, signal).catch((error) => {
    if (error instanceof NotFound) return undefined
    throw error
  })
  if (entry?.type === 'directory') throw new IsADirectory(`${path} is a directory`)
  const etag = entry?.etag === undefined ? undefined : `"${entry.etag}"`
  if (ifMatch !== undefined && (entry === undefined || !matches(ifMatch, etag, 'strong')))
    throw preconditionFailed(path, entry)
  const modified = entry && isModifiedSince(ifUnmodifiedSince, entry.modifiedAt)
  if (ifMatch === undefined && modified) throw preconditionFailed(path, entry)
  if (ifNoneMatch !== undefined && entry !== undefined && matches(ifNoneMatch, etag, 'weak'))
    throw preconditionFailed(path, entry)
  return {
    ...(ifNoneMatch?.trim() === '*' && { ifAbsent: true }),
    ...((ifMatch !== undefined || modified === false) && entry?.etag !== undefined && { ifMatch: entry.etag }),
  }
}

function preconditionFailed(path: string, entry: Entry | undefined): Problem {
  const etag = entry?.etag === undefined ? '' : ` with the ETag "${entry.etag}"`
  const found =
    entry === undefined ? 'does not exist' : `exists${etag}, last modified at ${entry.modifiedAt.toISOString()}`
  return new Problem('precondition_failed', `${path} ${found}, which is not what the request expects.`)
}

/** Somebody else was faster, after the first look. */
function throwFailedPrecondition(error: unknown): never {
  if (!(error instanceof AlreadyExists)) throw error
  throw new Problem('precondition_failed', error.message, { cause: error })
}
