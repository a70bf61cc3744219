import { randomUUID } from 'node:crypto'
import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import type { Entry, OpenFile } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import type { Rate } from '../../access/rates.ts'
import type { HandOver } from '../../config.ts'
import type { Sent } from '../notices.ts'
import { applicableRange, evaluatePreconditions, validatorsOf } from './conditions.ts'
import { asHeader } from './content-disposition.ts'
import { handOver } from './hand-over.ts'
import { type Presentation, presentationHeaders } from './presentation.ts'
import { type ByteRange, contentRange, parseRange } from './ranges.ts'
import { tellSent } from './sent.ts'
import { stream } from './stream.ts'

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Answers a GET or HEAD with a file and takes over closing it: validators, preconditions, ranges, names and types
     * as HTTP has them (RFC 9110, 6266).
     */
    sendFile(file: OpenFile, options: FileOptions): Promise<FastifyReply>
  }
}

export interface FileOptions extends Presentation {
  /** What it is sent as, and the volume that it comes from. */
  sent: Sent
  /** How fast; absent: no limit. */
  rate?: Rate | undefined
  /** The front server that sends the bytes; absent: this service does. */
  handOver?: HandOver | undefined
  /** What the client may keep; absent: what it asks about again each time. */
  cacheControl?: string | undefined
}

/** A file up to this size is sent as one buffer, by Fastify itself. */
const smallFileBytes = 64 * 1024

async function sendFile(this: FastifyReply, file: OpenFile, options: FileOptions): Promise<FastifyReply> {
  try {
    return await send(this, file, options)
  } finally {
    file.close()
  }
}

async function send(reply: FastifyReply, file: OpenFile, options: FileOptions): Promise<FastifyReply> {
  const { request } = reply
  const { entry } = file
  const validators = validatorsOf(entry)

  setHeaders(reply, entry, validators.etag, options)
  const outcome = evaluatePreconditions(request.headers, validators)
  if (outcome === 'failed') throw new Problem('precondition_failed', `${entry.path} is not what the request expects.`)
  if (outcome === 'not-modified') {
    reply.removeHeader('content-type')
    return reply.code(304).send()
  }

  const range = applicableRange(request.headers, validators)
  // RFC 9110, section 14.2: a Range counts for GET only.
  const ranges = request.method === 'GET' ? parseRange(range, entry.size) : undefined
  const [first] = ranges ?? []
  if (ranges !== undefined && first === undefined) {
    throw new Problem('range_not_satisfiable', `${entry.path} has ${entry.size} bytes.`, {
      headers: { 'content-range': `bytes */${entry.size}` },
      members: { size: entry.size },
    })
  }
  const { rate, sent } = options
  if (options.handOver !== undefined && (await handOver(reply, file, options.handOver, rate))) {
    return reply.code(200).send()
  }
  if (ranges === undefined || first === undefined) {
    return sendRange(reply.code(200), file, { start: 0, end: entry.size }, sent, rate)
  }
  reply.code(206)
  if (ranges.length > 1) return sendMultipart(reply, file, ranges, sent, rate)
  reply.header('content-range', contentRange(first, entry.size))
  return sendRange(reply, file, first, sent, rate)
}

function setHeaders(reply: FastifyReply, entry: Entry, etag: string | undefined, options: FileOptions): void {
  const { cacheControl = 'private, no-cache', ...presentation } = options
  const { contentType: type, contentDisposition } = presentationHeaders(presentation)
  reply.headers({
    'accept-ranges': 'bytes',
    'cache-control': cacheControl,
    'content-disposition': asHeader(contentDisposition),
    'content-type': type,
    'last-modified': entry.modifiedAt.toUTCString(),
    'x-content-type-options': 'nosniff',
  })
  if (etag !== undefined) reply.header('etag', etag)
  // A page that a user uploaded must not act in the name of the service's origin.
  if (presentation.disposition === 'inline' && /html|xml|svg/.test(type))
    reply.header('content-security-policy', 'sandbox')
}

async function sendMultipart(
  reply: FastifyReply,
  file: OpenFile,
  ranges: ByteRange[],
  sent: Sent,
  rate: Rate | undefined,
): Promise<FastifyReply> {
  const boundary = randomUUID()
  const type = reply.getHeader('content-type')
  const { size } = file.entry
  const heads = ranges.map((range, index) => {
    const start = index === 0 ? '' : '\r\n'
    const fields = `content-type: ${type}\r\ncontent-range: ${contentRange(range, size)}`
    return Buffer.from(`${start}--${boundary}\r\n${fields}\r\n\r\n`)
  })
  const end = Buffer.from(`\r\n--${boundary}--\r\n`)

  async function* parts(): AsyncGenerator<Buffer> {
    for (const [index, range] of ranges.entries()) {
      const head = heads[index]
      if (head !== undefined) yield head
      yield* file.chunks(range)
    }
    yield end
  }

  const framing = heads.reduce((sum, head) => sum + head.length, end.length)
  const content = ranges.reduce((sum, range) => sum + range.end - range.start, 0)
  reply.header('content-type', `multipart/byteranges; boundary=${boundary}`)
  return sendBody(reply, framing + content, parts(), sent, rate)
}

async function sendRange(reply: FastifyReply, file: OpenFile, range: ByteRange, sent: Sent, rate: Rate | undefined) {
  const content = rate === undefined ? file.content?.subarray(range.start, range.end) : undefined
  return sendBody(reply, range.end - range.start, content ?? file.chunks(range), sent, rate)
}

async function sendBody(
  reply: FastifyReply,
  length: number,
  body: Buffer | AsyncIterable<Buffer>,
  sent: Sent,
  rate: Rate | undefined,
): Promise<FastifyReply> {
  reply.header('content-length', length)
  if (reply.request.method === 'HEAD' || length === 0) return reply.send()
  if (Buffer.isBuffer(body)) return sendWhole(reply, body, sent)
  if (length <= smallFileBytes && rate === undefined) {
    const whole = Buffer.allocUnsafe(length)
    let filled = 0
    for await (const chunk of body) filled += chunk.copy(whole, filled)
    return sendWhole(reply, whole.subarray(0, filled), sent)
  }
  return stream(reply, reply.request.paced(body, rate), sent, 'the file could not be read to its end')
}

function sendWhole(reply: FastifyReply, body: Buffer, sent: Sent): FastifyReply {
  tellSent(reply, sent, body.length)
  return reply.send(body)
}

/** Sends files over HTTP. */
export default fp(
  async (app) => {
    app.decorateReply('sentSoFar', null)
    app.decorateReply('sendFile', sendFile)
  },
  { name: 'downloads', dependencies: ['errors', 'connection-abort', 'pacing'] },
)

/** The name under which a file is saved: the last segment of its path. */
export function filenameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}
