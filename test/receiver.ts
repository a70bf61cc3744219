import { createHmac, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { type Answer, eventually, type Teardown } from './server.ts'

export const webhookSecret = `whsec_${Buffer.from('a-webhook-secret-for-tests').toString('base64')}`

export interface Delivery {
  headers: IncomingHttpHeaders
  event: Answer
  /** Whether one of its signatures is that of `webhookSecret`, as a receiver verifies it. */
  isSigned: boolean
}

/** Whoever is told of events by webhooks. */
export class Receiver {
  readonly url: string
  readonly deliveries: Delivery[] = []
  /** What it answers; events that it does not take are in none of its lists. */
  answer: (delivery: Delivery) => number | Promise<number> = () => 204
  /** All that was sent, also what it did not take. */
  readonly seen: Delivery[] = []

  constructor(url: string) {
    this.url = url
  }

  /** What the service is started with. */
  get env(): Record<string, string> {
    return { WEBHOOK_URLS: this.url, WEBHOOK_SECRETS: webhookSecret, WEBHOOK_PRIVATE_NETWORKS: '127.0.0.0/8' }
  }

  /** Each once, in the order in which they came first. */
  events(): Answer[] {
    return [...new Map(this.deliveries.map(({ event }) => [event.id, event])).values()]
  }

  of(folder: string): Answer[] {
    return this.events().filter((event) => event.folder === folder)
  }

  /** Waits for an event. */
  told(fits: (event: Answer) => boolean, milliseconds?: number): Promise<Answer> {
    return eventually(() => this.events().find(fits), milliseconds)
  }

  readonly listener: RequestListener = async (request, response) => {
    const body = await text(request)
    const delivery = { headers: request.headers, event: JSON.parse(body), isSigned: verify(request.headers, body) }
    this.seen.push(delivery)
    const status = await this.answer(delivery)
    if (status >= 200 && status < 300) this.deliveries.push(delivery)
    response.writeHead(status, status === 302 ? { location: this.url } : {}).end()
  }
}

export async function startReceiver(t: Teardown, port = 0): Promise<Receiver> {
  const server = createServer((request, response) => receiver.listener(request, response))
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const receiver = new Receiver(`http://127.0.0.1:${(server.address() as AddressInfo).port}/events`)
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return receiver
}

/** Standard Webhooks 1.0, "Verifying signatures". */
function verify(headers: IncomingHttpHeaders, body: string): boolean {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures = '' } = headers
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > 300) return false
  const secret = Buffer.from(webhookSecret.slice('whsec_'.length), 'base64')
  const wanted = createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest()
  return String(signatures)
    .split(' ')
    .filter((one) => one.startsWith('v1,'))
    .map((one) => Buffer.from(one.slice(3), 'base64'))
    .some((one) => one.length === wanted.length && timingSafeEqual(one, wanted))
}
