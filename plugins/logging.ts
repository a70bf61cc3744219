import type { FastifyReply, FastifyRequest } from 'fastify'
import { pino } from 'pino'
import { requestIdLogging } from './request-id.ts'

/** JSON lines on stdout, for people only where a person looks on: on a terminal. */
export function createLogger(level: string) {
  return pino({
    level,
    ...requestIdLogging,
    serializers: { req, res, err: pino.stdSerializers.err },
    ...(process.stdout.isTTY && { transport: { target: 'pino-pretty', options: { translateTime: 'HH:MM:ss.l' } } }),
  })
}

function req({ method, url, ip }: FastifyRequest) {
  return { method, url: withoutToken(url), remoteAddress: ip }
}

function res({ statusCode }: FastifyReply) {
  return { statusCode }
}

/** A token in a log would let its reader do what it permits. */
function withoutToken(url: string): string {
  return url.replace(/([?&]token=)[^&]*/g, '$1[redacted]')
}
