import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { requestEnded } from '../../request/connection/abort.ts'
import { refusals, requestRefused } from '../../request/overload/notices.ts'
import { bytesSent } from '../../transfer/notices.ts'
import { transferRefused } from '../../transfer/transfers.ts'
import { bytesReceived, uploadPassed } from '../../vfolders/notices.ts'
import { Counter, type Distribution, Gauge, Histogram } from './instruments.ts'
import type { Meters } from './meters.ts'

const bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

/** Any other one that Node knows is refused by every route. */
const methods = new Set(['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS'])
/** In the place of the first digit of the status: the connection was gone before the answer was sent. */
const broken = 0

/** What clients and the manager ask for, and the bytes that move. */
export function countRequests(meters: Meters, app: FastifyInstance): void {
  countAnswers(meters)
  countRefusals(meters)
  countTransfers(meters, app)
  countUploads(meters)
}

function countAnswers(meters: Meters): void {
  const durations = meters.add(
    new Histogram({
      name: 'storage_proxy_http_request_duration_seconds',
      help: 'Requests by how long they took, from their headers to the last byte of the answer.',
      labels: ['route', 'method', 'status'],
      bounds,
    }),
  )
  const known = new Map<string, Map<string, Distribution[]>>()

  function statusesOf(route: string, method: string): Distribution[] {
    const byMethod = known.get(route) ?? new Map<string, Distribution[]>()
    const byStatus = byMethod.get(method)
    if (byStatus !== undefined) return byStatus
    const fresh: Distribution[] = []
    known.set(route, byMethod.set(method, fresh))
    return fresh
  }

  function distributionOf({ routeOptions: { url = 'none' }, method: given }: FastifyRequest, reply: FastifyReply) {
    const method = methods.has(given) ? given : 'other'
    const status = reply.raw.writableFinished ? Math.floor(reply.statusCode / 100) : broken
    const ofMethod = statusesOf(url, method)
    ofMethod[status] ??= durations.of(url, method, status === broken ? 'broken' : `${status}xx`)
    return ofMethod[status]
  }

  meters.until(
    requestEnded.take((request, reply) => {
      distributionOf(request, reply).observe(reply.elapsedTime / 1000, request.id)
    }),
  )
}

function countRefusals(meters: Meters): void {
  const refused = meters.add(
    new Counter({
      name: 'storage_proxy_requests_refused_total',
      help: 'Requests that were turned away, since the process was overloaded or somebody asked too often.',
      labels: ['reason'],
    }),
  )
  for (const reason of refusals) refused.of(reason)
  meters.until(requestRefused.take((reason) => refused.of(reason).add()))
}

function countTransfers(meters: Meters, app: FastifyInstance): void {
  const open = new Gauge({
    name: 'storage_proxy_transfers_open',
    help: 'Downloads, archives and uploads by signed URL that are under way.',
    look: () => {
      open.of().value = app.openTransfers()
    },
  })
  meters.add(open)
  const refusals = meters.add(
    new Counter({
      name: 'storage_proxy_transfers_refused_total',
      help: 'Transfers that were turned away, since MAX_TRANSFERS were open.',
    }),
  )
  const received = meters.add(
    new Counter({
      name: 'storage_proxy_received_bytes_total',
      help: 'Bytes of files that came from clients and the manager.',
      labels: ['volume', 'kind'],
    }),
  )
  const sent = meters.add(
    new Counter({
      name: 'storage_proxy_sent_bytes_total',
      help: 'Bytes of files and archives that went to clients and the manager.',
      labels: ['volume', 'kind'],
    }),
  )
  for (const { name } of app.volumes.all()) {
    for (const kind of ['put', 'form', 'tus']) received.of(name, kind)
    for (const kind of ['download', 'content', 'archive']) sent.of(name, kind)
  }
  meters.until(transferRefused.take(() => refusals.of().add()))
  meters.until(bytesReceived.take((kind, volume, bytes) => received.of(volume, kind).add(bytes)))
  meters.until(bytesSent.take((kind, volume, bytes) => sent.of(volume, kind).add(bytes)))
}

function countUploads(meters: Meters): void {
  const uploads = meters.add(
    new Counter({
      name: 'storage_proxy_uploads_total',
      help: 'Resumable uploads that were begun, resumed, finished, ended by somebody, or have expired.',
      labels: ['event', 'kind'],
    }),
  )
  for (const kind of ['tus', 'direct']) {
    for (const event of ['begun', 'resumed', 'finished', 'ended', 'expired']) uploads.of(event, kind)
  }
  meters.until(uploadPassed.take((event, kind) => uploads.of(event, kind).add()))
}
