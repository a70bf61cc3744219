/** Extensions of a route's schema: header fields that the handler reads and no schema validates, and those it answers. */
export const requestHeaders = 'x-request-headers'
export const responseHeaders = 'x-response-headers'

declare module 'fastify' {
  interface FastifySchema {
    [requestHeaders]?: HeaderName[]
    /** By the status, or the class of them, that they come with. */
    [responseHeaders]?: Record<string, HeaderName[]>
  }
}

interface Field {
  description: string
  example: string | number
  /** A request that lacks it is refused. */
  required?: true
}

/** What the document says of each, once. */
const fields = {
  'Accept-Ranges': { description: 'always `bytes`', example: 'bytes' },
  Allow: { description: 'the methods that the path takes', example: 'DELETE, HEAD, OPTIONS, PATCH, POST' },
  'Content-Digest': {
    description: 'sha-256 or sha-512 of the body, which is verified (RFC 9530)',
    example: 'sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:',
  },
  'Content-Disposition': {
    description: 'how to present the file, and its name',
    example: 'attachment; filename="a.csv"',
  },
  'Content-Range': { description: 'which bytes these are, or how many there are', example: 'bytes 0-4/11' },
  ETag: { description: 'changes with the bytes', example: '"1b9f-18f3a5c2d1e00000-5"' },
  Expect: { description: '`100-continue`: the body is sent only once it is wanted', example: '100-continue' },
  'If-Match': { description: 'ETags, or `*`: only if the file has one of them', example: '"1b9f-18f3a5c2d1e00000-5"' },
  'If-Modified-Since': { description: 'only what has changed since', example: 'Fri, 02 Jan 2026 03:04:05 GMT' },
  'If-None-Match': { description: 'ETags, or `*`: only if the file has none of them', example: '*' },
  'If-Range': {
    description: 'an ETag or a date: the range counts only if the file is still that one',
    example: '"1b9f-18f3a5c2d1e00000-5"',
  },
  'If-Unmodified-Since': { description: 'only if nothing has changed since', example: 'Fri, 02 Jan 2026 03:04:05 GMT' },
  'Last-Modified': { description: 'when the file was changed', example: 'Fri, 02 Jan 2026 03:04:05 GMT' },
  Location: { description: 'where to go on', example: '/jobs/0198c7a2-9f00-7d11-8a52-0c1d2e3f4a5b' },
  Range: { description: 'the bytes to send, one range or several', example: 'bytes=0-4' },
  'Repr-Digest': {
    description: 'sha-256 or sha-512 of the whole file (RFC 9530)',
    example: 'sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:',
  },
  'Retry-After': { description: 'seconds, where the same call may well succeed then', example: 5 },
  traceparent: {
    description: 'the trace that the log joins the request with (W3C Trace Context)',
    example: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  },
  'Tus-Checksum-Algorithm': { description: 'the algorithms of `Upload-Checksum`', example: 'sha1,sha256' },
  'Tus-Extension': { description: 'the extensions of tus that are supported', example: 'creation,expiration' },
  'Tus-Max-Size': { description: 'the largest upload in bytes, where there is a limit', example: 1_000_000_000 },
  'Tus-Resumable': { description: 'the version of tus', example: '1.0.0', required: true },
  'Tus-Version': { description: 'the versions of tus that are supported', example: '1.0.0' },
  'Upload-Checksum': {
    description: 'an algorithm, and the checksum of the body in base64',
    example: 'sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=',
  },
  'Upload-Concat': { description: '`partial`, or `final;` and the URLs of the parts', example: 'partial' },
  'Upload-Defer-Length': { description: '1: the length follows later', example: 1 },
  'Upload-Expires': {
    description: 'how long the upload lives if nothing more comes',
    example: 'Sat, 03 Jan 2026 03:04:05 GMT',
  },
  'Upload-Length': { description: 'the bytes of the whole', example: 5 },
  'Upload-Metadata': {
    description: 'keys, and values in base64; given back as they are',
    example: 'filename YS5jc3Y=',
  },
  'Upload-Offset': { description: 'the bytes that are stored; a PATCH must have it', example: 0 },
  'X-Backend-Request-ID': {
    description: 'what the log names the request by; one is made if none fits',
    example: 'job-42',
  },
  'X-HTTP-Method-Override': { description: 'the method that is meant', example: 'PATCH', required: true },
} satisfies Record<string, Field>

export type HeaderName = keyof typeof fields

const known: Record<HeaderName, Field> = fields

function describe({ description, example }: Field) {
  const type: 'integer' | 'string' = typeof example === 'number' ? 'integer' : 'string'
  return { description, schema: { type }, example }
}

/** Every request may have these. */
const anyRequest: HeaderName[] = ['X-Backend-Request-ID', 'traceparent']

/** Answers of these statuses may have more than the ID: a 202 has the job at its Location. */
const moreByStatus: Record<string, HeaderName[]> = { 202: ['Location'], 429: ['Retry-After'], '5XX': ['Retry-After'] }

export function parametersOf(names: unknown): object[] {
  return [...namesIn(names), ...anyRequest].map((name) => {
    const field = known[name]
    return { name, in: 'header', required: field.required === true, ...describe(field) }
  })
}

/** The headers of answers, each described once, among the components of the document. */
export class AnswerHeaders {
  readonly #used = new Set<HeaderName>()

  /** Those of an answer of the given status, or class such as `4XX`. */
  of(named: unknown, status: string): Record<string, object> {
    const own = typeof named === 'object' && named !== null ? Object.entries(named) : []
    const names = own.filter(([key]) => key.toUpperCase() === status).flatMap(([, names]) => namesIn(names))
    const all: HeaderName[] = ['X-Backend-Request-ID', ...names, ...(moreByStatus[status] ?? [])]
    for (const name of all) this.#used.add(name)
    return Object.fromEntries(all.map((name) => [name, { $ref: `#/components/headers/${name}` }]))
  }

  get components(): Record<string, object> {
    return Object.fromEntries([...this.#used].sort().map((name) => [name, describe(known[name])]))
  }
}

function namesIn(names: unknown): HeaderName[] {
  return Array.isArray(names) ? names.filter((name) => name in known) : []
}
