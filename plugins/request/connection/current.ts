import type { Duplex } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'

interface Connection {
  /** The replies that are not complete, in the order of their requests, which is that of the answers. */
  open: FastifyReply[]
  latest: FastifyReply
  whenAnswered: (() => void) | undefined
}

const connections = new WeakMap<Duplex, Connection>()

/** Notes the request that a connection is at. */
export function begin({ raw: { socket } }: FastifyRequest, reply: FastifyReply): void {
  const known = connections.get(socket)
  if (known === undefined) {
    connections.set(socket, { open: [reply], latest: reply, whenAnswered: undefined })
    socket.once('close', () => closeAll(socket))
  } else {
    known.open.push(reply)
    known.latest = reply
  }
}

/** Forgets a request that was answered, or whose connection is gone. */
export function end({ raw: { socket } }: FastifyRequest, reply: FastifyReply): void {
  const connection = connections.get(socket)
  if (connection === undefined) return
  const at = connection.open.indexOf(reply)
  if (at >= 0) connection.open.splice(at, 1)
  connection.whenAnswered?.()
}

/** Node tells only the response that is being sent, and none at all after a CONNECT. */
function closeAll(socket: Duplex): void {
  const open = connections.get(socket)?.open ?? []
  connections.delete(socket)
  for (const { request, raw } of open) {
    request.raw.destroy()
    if (raw.closed) continue
    raw.destroy()
    raw.emit('close')
  }
}

/** Calls `next` when the answers to all requests of a connection are sent, but for one, unless it is closed before. */
export function afterAnswers(socket: Duplex, except: FastifyReply | undefined, next: () => void): void {
  const connection = connections.get(socket)
  const proceed = () => {
    if (connection?.open.some((reply) => reply !== except)) return
    if (connection !== undefined) connection.whenAnswered = undefined
    next()
  }
  if (connection !== undefined) connection.whenAnswered = proceed
  proceed()
}

export interface RunningRequest {
  request: FastifyRequest
  /** The whole request has arrived. */
  complete: boolean
  /** The service is reading its body. */
  reading: boolean
  answering: boolean
}

/** The latest request of a connection whose answer is not complete. */
export function requestOn(socket: Duplex): RunningRequest | undefined {
  const reply = connections.get(socket)?.open.at(-1)
  if (reply === undefined) return undefined
  const { request } = reply
  const { raw } = request
  return { request, complete: raw.complete, reading: raw.readableFlowing === true, answering: reply.raw.headersSent }
}

/** The response that is being sent on a connection. */
export function responseOn(socket: Duplex): FastifyReply['raw'] | undefined {
  return connections.get(socket)?.open[0]?.raw
}

/** The reply to a request whose end has not arrived, answered or not. */
export function unfinishedOn(socket: Duplex): FastifyReply | undefined {
  const latest = connections.get(socket)?.latest
  return latest === undefined || latest.request.raw.complete ? undefined : latest
}

/** Whether a request has come on the connection before. */
export function hasServed(socket: Duplex): boolean {
  return connections.has(socket)
}
