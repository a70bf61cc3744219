import type { FastifyReply, FastifyRequest } from 'fastify'
import { pino } from 'pino'
import { requestIdLogging } from './request-id.ts'

/** JSON lines on stdout, for people only where a person looks on: on a terminal. */
export function createLogger(level: string) {
  const options = { level, ...requestIdLogging, serializers: { req, res, err: pino.stdSerializers.err } }
  if (!process.stdout.isTTY) return pino(options, turnByTurn(process.stdout.fd))
  return pino({ ...options, transport: { target: 'pino-pretty', options: { translateTime: 'HH:MM:ss.l' } } })
}

/**
 * Writes the lines of one turn of the event loop together, synchronously at its end: a system call a line is a tenth of
 * what a small request costs. A process that is killed loses the lines of its last turn at most.
 */
function turnByTurn(fd: number) {
  const destination = pino.destination({ fd, sync: true })
  let lines = ''
  const flushSync = () => {
    destination.write(lines)
    lines = ''
  }
  process.on('exit', () => {
    if (lines !== '') flushSync()
  })
  return {
    flushSync,
    write(line: string): void {
      if (lines === '') setImmediate(flushSync)
      lines += line
    },
  }
}

function req({ method, url, ip }: FastifyRequest) {
  return { method, url: withoutToken(url), remoteAddress: ip }
}

function res({ statusCode }: FastifyReply) {
  return { statusCode }
}

/** A token in a log would let its reader do what it permits; so also where a client wrote it in a way of its own. */
function withoutToken(url: string): string {
  return url.replace(/([?&]token=)[^&]*/g, '$1[redacted]').replace(/[\w-]{8}\.[\w-]{40,}\.[\w-]{43}/g, '[redacted]')
}
