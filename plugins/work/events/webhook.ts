import { createHmac } from 'node:crypto'
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import type { BlockList } from 'node:net'
import { isIP } from 'node:net'
import type { FastifyBaseLogger } from 'fastify'
import { traceparent } from '../../../lib/context.ts'
import { checkedLookup, isRefused, refusal } from './addresses.ts'
import type { Event } from './event.ts'
import type { Target } from './target.ts'
import type { WebhookEndpoint } from './webhook-settings.ts'

/** Requests under way to one endpoint, each about another vfolder. */
const concurrency = 8

/** A connection that is not used for so long is closed: shorter than servers mostly wait. */
const idleMilliseconds = 4000

/** Of an answer that says more, the connection is closed. */
const mostAnswerBytes = 64 * 1024

export interface WebhookOptions extends WebhookEndpoint {
  secrets: Buffer[]
  networks: BlockList
  timeoutSeconds: number
  log: FastifyBaseLogger
  /** Called with why an event was not taken, or with nothing. */
  onTold(event: Event, error?: unknown): void
}

/** Sends events to an endpoint by the scheme of Standard Webhooks. */
export function createWebhook(options: WebhookOptions): Target {
  const { name, url, secrets, networks, timeoutSeconds, log, onTold } = options
  const agentOptions = {
    keepAlive: true,
    maxSockets: concurrency,
    timeout: idleMilliseconds,
    lookup: checkedLookup(networks),
  }
  const agent = url.protocol === 'https:' ? new https.Agent(agentOptions) : new http.Agent(agentOptions)
  const host = url.hostname.replace(/^\[|\]$/g, '')

  async function send(event: Event, signal: AbortSignal): Promise<void> {
    // Nobody looks up what is an address already.
    if (isIP(host) !== 0 && isRefused(host, networks)) throw refusal(host, host)
    const begun = performance.now()
    const body = JSON.stringify(event)
    const limit = AbortSignal.timeout(timeoutSeconds * 1000)
    const status = await post({
      url,
      agent,
      body,
      headers: headersOf(event, body, secrets),
      signal: AbortSignal.any([signal, limit]),
    }).catch((error: unknown) => {
      throw limit.aborted ? new Error(`no answer within ${timeoutSeconds} s`) : error
    })
    if (status < 200 || status > 299)
      throw new Error(`it answered ${status}${status < 400 ? '; a redirect is not followed' : ''}`)
    const fields = { target: name, event_id: event.id, event: event.type, folder: event.folder, status }
    log.info({ ...fields, duration_ms: Math.round(performance.now() - begun) }, 'event delivered')
  }

  return {
    name,
    order: 'vfolder',
    concurrency,
    batch: 1,
    async deliver(events, signal) {
      for (const event of events) {
        try {
          await send(event, signal)
        } catch (error) {
          if (!signal.aborted) onTold(event, error)
          throw error
        }
        onTold(event)
      }
    },
    close: () => agent.destroy(),
  }
}

/** Standard Webhooks 1.0, "Signature scheme": a receiver needs one of the signatures. */
function headersOf(event: Event, body: string, secrets: Buffer[]): Record<string, string> {
  const { id, requestId, [traceparent]: trace } = event
  const timestamp = String(Math.floor(Date.now() / 1000))
  const sign = (secret: Buffer) => createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64')
  return {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    'user-agent': 'storage-proxy',
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': secrets.map((secret) => `v1,${sign(secret)}`).join(' '),
    'x-backend-request-id': requestId,
    ...(typeof trace === 'string' && { traceparent: trace }),
  }
}

interface Post {
  url: URL
  agent: http.Agent
  headers: Record<string, string>
  body: string
  signal: AbortSignal
}

/** @returns the status; no redirect is followed */
async function post(options: Post): Promise<number> {
  try {
    return await postOnce(options)
  } catch (error) {
    // A connection that was kept may have been closed just then.
    if (!(error instanceof StaleConnection)) throw error
    return postOnce(options)
  }
}

class StaleConnection extends Error {}

function postOnce({ url, agent, headers, body, signal }: Post): Promise<number> {
  return new Promise((resolve, reject) => {
    const { request } = url.protocol === 'https:' ? https : http
    const sent = request(url, { method: 'POST', agent, headers, signal }, (answer) => {
      discard(answer)
      resolve(answer.statusCode ?? 0)
    })
    sent.on('error', (error: NodeJS.ErrnoException) => {
      const isStale = sent.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
      reject(isStale ? new StaleConnection(error.message) : error)
    })
    sent.end(body)
  })
}

/** What it says beside its status is of no interest. */
function discard(answer: IncomingMessage): void {
  let bytes = 0
  answer.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > mostAnswerBytes) answer.destroy()
  })
  answer.on('error', () => {})
}
