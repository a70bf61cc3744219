import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { requestIdHeader } from '../../request/request-id.ts'
import type { Sent } from '../notices.ts'
import { tellSent } from './sent.ts'

/**
 * Writes chunk after chunk to the connection, without a stream in between: a chunk's memory is used again as soon as
 * the kernel has it. An error before the first chunk is thrown, and so answered; after the headers it can only be shown
 * by cutting the connection, and the log says `brokenReason`.
 */
export async function stream(
  reply: FastifyReply,
  chunks: AsyncIterable<Buffer>,
  sent: Sent,
  brokenReason: string,
): Promise<FastifyReply> {
  const { raw, request } = reply
  const iterator = chunks[Symbol.asyncIterator]()
  let next = await iterator.next()
  reply.hijack()
  reply.header(requestIdHeader, request.id)
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) raw.setHeader(name, value)
  }
  try {
    for (; !next.done; next = await iterator.next()) {
      const { length } = next.value
      await write(raw, next.value, request.abortSignal)
      tellSent(reply, sent, length)
    }
    raw.end()
  } catch (error) {
    // "request aborted" already logs a broken connection, which may show here a moment before the signal aborts.
    const gone = request.abortSignal.aborted || request.raw.socket.destroyed
    if (gone) return reply
    request.log.error({ err: error }, 'download failed after its headers were sent')
    request.cut(brokenReason)
  } finally {
    await iterator.return?.()
  }
  return reply
}

/** Resolves when the kernel has the bytes; rejects when the connection is closed and it never will. */
function write(raw: ServerResponse, chunk: Buffer, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = () => reject(signal.reason)
    if (signal.aborted) return closed()
    signal.addEventListener('abort', closed, { once: true })
    raw.write(chunk, (error) => {
      signal.removeEventListener('abort', closed)
      if (error) reject(error)
      else resolve()
    })
  })
}
