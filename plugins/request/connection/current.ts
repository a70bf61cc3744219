import type { Duplex } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'

/** The reply to the latest request of a connection, until it is complete. */
const replies = new WeakMap<Duplex, FastifyReply>()

/** Notes the request that a connection is at. */
export function begin(request: FastifyRequest, reply: FastifyReply): void {
  replies.set(request.raw.socket, reply)
}

/** Forgets it, unless the connection is at the next one already. */
export function end(request: FastifyRequest, reply: FastifyReply): void {
  if (replies.get(request.raw.socket) === reply) replies.delete(request.raw.socket)
}

export interface RunningRequest {
  request: FastifyRequest
  /** The whole request has arrived. */
  complete: boolean
  /** The service is reading its body. */
  reading: boolean
  answering: boolean
}

/** The request that a connection is at, whose answer is not complete. */
export function requestOn(socket: Duplex): RunningRequest | undefined {
  const reply = replies.get(socket)
  if (reply === undefined) return undefined
  const { request } = reply
  const { raw } = request
  return { request, complete: raw.complete, reading: raw.readableFlowing === true, answering: reply.raw.headersSent }
}
