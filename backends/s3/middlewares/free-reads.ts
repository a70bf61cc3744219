import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { free } from '../../buffers.ts'

/**
 * Frees what the connection reads into as soon as the HTTP parser has copied the body out of it: to the end of the body,
 * when the connection becomes another request's, or until the function that it gives is called.
 * Bench row `s3-memory`.
 */
export function freeReads(body: Readable): () => void {
  if (!(body instanceof IncomingMessage)) return () => {}
  const { socket } = body
  const onRead = (chunk: Buffer) => free(chunk)
  const stop = () => socket.off('data', onRead)
  // Behind the parser, which listens since the request was sent.
  socket.on('data', onRead)
  body.once('end', stop)
  return stop
}
