import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * What happens to a request: the connection is reset before the server hears of it, or after it has done what was asked
 * but before it is told so; the server answers 503, 500 or 501; the answer comes late or never; its body breaks off in the
 * middle, or comes in drops; or the server fails after it has said 200, as S3 may do when it copies (its API reference,
 * CopyObject); it has no such multipart upload any more; its listings tell whole seconds, as Amazon's do; it has another
 * change of the object under way; it works for long before it answers; it gives bytes that have another checksum; or its
 * clock is slow.
 */
export type Fault =
  | 'reset'
  | 'lost-answer'
  | 'slow-down'
  | 'internal-error'
  | 'not-implemented'
  | 'late'
  | 'silence'
  | 'cut'
  | 'drops'
  | 'late-error'
  | 'no-such-upload'
  | 'whole-seconds'
  | 'conflict'
  | 'working'
  | 'wrong-checksum'
  | 'slow-clock'

export interface FaultyProxy {
  url: string
  /** Decides on each request. */
  fault: (request: IncomingMessage) => Fault | undefined
  /** How often each fault has struck. */
  readonly struck: Record<Fault, number>
}

const errorBodies = {
  'slow-down': [503, 'SlowDown'],
  'internal-error': [500, 'InternalError'],
  'not-implemented': [501, 'NotImplemented'],
  'late-error': [200, 'InternalError'],
  'no-such-upload': [404, 'NoSuchUpload'],
  conflict: [409, 'ConditionalRequestConflict'],
} as const

const isError = (fault: Fault | undefined): fault is keyof typeof errorBodies =>
  fault !== undefined && fault in errorBodies

/** Bodies that are cut in half again and again would never end. */
const smallestCut = 64
const dropBytes = 5000
const workMilliseconds = 4000
const slowMilliseconds = 120_000

function slowDown({ rawHeaders }: IncomingMessage): void {
  for (const [index, name] of rawHeaders.entries()) {
    if (index % 2 === 1 || !/^(?:date|last-modified)$/i.test(name)) continue
    rawHeaders[index + 1] = new Date(Date.parse(rawHeaders[index + 1]!) - slowMilliseconds).toUTCString()
  }
}

/** Stands before an HTTP server, and does it no good. */
export async function startFaultyProxy(t: { teardown(fn: () => unknown): void }, url: string): Promise<FaultyProxy> {
  const struck = {
    reset: 0,
    'lost-answer': 0,
    'slow-down': 0,
    'internal-error': 0,
    'not-implemented': 0,
    late: 0,
    silence: 0,
    cut: 0,
    drops: 0,
    'late-error': 0,
    'no-such-upload': 0,
    'whole-seconds': 0,
    conflict: 0,
    working: 0,
    'wrong-checksum': 0,
    'slow-clock': 0,
  }
  const server = createServer((incoming, answer) => {
    pass(incoming, answer).catch(() => incoming.socket.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const proxy: FaultyProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    fault: () => undefined,
    struck,
  }

  async function pass(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const fault = proxy.fault(incoming)
    if (fault !== undefined) struck[fault]++
    if (fault === 'reset') return void incoming.socket.resetAndDestroy()
    const body = await buffer(incoming)
    if (fault === 'silence') return
    if (isError(fault)) {
      const [status, code] = errorBodies[fault]
      return void answer.writeHead(status).end(`<?xml version="1.0"?><Error><Code>${code}</Code></Error>`)
    }
    const { method, headers } = incoming
    const upstream = request(url + incoming.url, { method, headers })
    upstream.end(body)
    const [response] = (await once(upstream, 'response')) as [IncomingMessage]
    let bytes = await buffer(response)
    if (fault === 'whole-seconds') bytes = Buffer.from(String(bytes).replaceAll(/\.\d{3}Z</g, '.000Z<'))
    if (fault === 'lost-answer') return void incoming.socket.resetAndDestroy()
    if (fault === 'late') await sleep(50)
    if (fault === 'working') await sleep(workMilliseconds)
    if (fault === 'slow-clock') slowDown(response)
    if (fault === 'wrong-checksum') response.rawHeaders.push('x-amz-checksum-crc32', 'AAAAAA==')
    answer.writeHead(response.statusCode!, response.rawHeaders)
    if (fault === 'drops') {
      for (let at = 0; at < bytes.length; at += dropBytes) {
        answer.write(bytes.subarray(at, at + dropBytes))
        await sleep(5)
      }
      return void answer.end()
    }
    if (fault !== 'cut' || bytes.length < smallestCut) return void answer.end(bytes)
    answer.write(bytes.subarray(0, bytes.length / 2), () => incoming.socket.destroySoon())
  }

  return proxy
}

/** Each command meets its fault once, when it is sent for the first time; the kinds take turns. */
export function onceEach(faults: Fault[]): FaultyProxy['fault'] {
  let next = 0
  return ({ headers }) => {
    if (!/attempt=1\b/.test(String(headers['amz-sdk-request']))) return undefined
    return faults[next++ % faults.length]
  }
}
