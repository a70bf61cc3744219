import type { FastifyInstance, FastifyReply, FastifyRequest, preHandlerHookHandler } from 'fastify'
import { currentContext, type LogContext } from '../lib/context.ts'
import { problems } from '../lib/problems.ts'
import { requestEnded } from '../plugins/request/connection/abort.ts'
import { refusals } from '../plugins/request/errors.ts'
import type { Action, Facts, Outcome } from '../plugins/work/audit/facts.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the audit trail calls the request, from when it is known who asks. */
    audit?: Action
  }
  interface FastifyRequest {
    /** Set while something of the request is for the audit trail. */
    audited: LogContext | null
    /** What is told of it besides what its URL and its body say. */
    auditFacts: Partial<Facts> | null
  }
}

/** Actions that change nothing: they go on while nothing can be written down, as long as it can wait. */
const reads: Action[] = ['file.read', 'archive.read', 'url.sign']

/**
 * Audits the requests of the routes that have `audit` in their `config`, which a scope registers after its guards. A
 * change tells of itself in its transaction; what has none, and whatever does not succeed, is told at the end of the request.
 */
export function auditRequests(app: FastifyInstance): void {
  const { audit } = app
  if (!audit.isOn) return
  app.addHook('onRoute', (route) => {
    const action = route.config?.audit
    if (action === undefined) return
    const isRead = reads.includes(action)
    const begin: preHandlerHookHandler = (request, _reply, done) => {
      request.audited = currentContext() ?? null
      if (audit.isReady({ isRead })) done()
      else audit.requireReady({ isRead }).then(() => done(), done)
    }
    // Behind the guards of the scope, which learn who asks.
    route.preHandler = [route.preHandler ?? [], begin].flat()
  })
}

/** Tells of requests that have ended; once, for all scopes. */
export function auditEnds(app: FastifyInstance): void {
  app.decorateRequest('audited', null)
  app.decorateRequest('auditFacts', null)
  const end = requestEnded.take((request, reply) => {
    const { audited, auditFacts, method, routeOptions } = request
    const action = auditFacts?.action ?? routeOptions.config.audit
    if (audited === null || action === undefined || method === 'HEAD') return
    const ended = outcomeOf(reply)
    const isDone = ended.outcome === 'succeeded' || ended.outcome === 'begun'
    if (isDone && app.audit.knows(audited, action)) return
    app.audit.note({ ...placeOf(request), ...auditFacts, ...reply.sentSoFar, ...ended, action }, audited)
  })
  app.addHook('onClose', async () => end())
}

function outcomeOf(reply: FastifyReply): { outcome: Outcome; code?: string } {
  const { statusCode, problemCode } = reply
  if (!reply.raw.writableFinished) return { outcome: 'aborted' }
  if (statusCode < 400) return { outcome: goesOn(reply) ? 'begun' : 'succeeded' }
  if (problemCode === null) return { outcome: statusCode < 500 ? 'refused' : 'failed' }
  const isRefusal = problems[problemCode].status < 500 || refusals.includes(problemCode)
  return { outcome: isRefusal ? 'refused' : 'failed', code: problemCode }
}

/** Whether a job does what was asked for, and tells of it when it is done. */
function goesOn(reply: FastifyReply): boolean {
  return reply.statusCode === 202 && reply.hasHeader('location')
}

/** What the request names, as each route of the API calls it. */
function placeOf({ params, query, body }: FastifyRequest): Partial<Facts> {
  const folder = textIn(params, 'id') ?? textIn(params, 'folder') ?? textIn(query, 'folder') ?? textIn(body, 'id')
  const paths = memberOf(body, 'paths')
  const count = Array.isArray(paths) && paths.length !== 1 ? paths.length : undefined
  const only: unknown = Array.isArray(paths) && paths.length === 1 ? paths[0] : undefined
  const path = textIn(params, '*') ?? textIn(body, 'to') ?? textIn(body, 'path') ?? textIn(query, 'path')
  return {
    folder,
    path: path ?? (typeof only === 'string' ? only : undefined),
    count,
    volume: textIn(params, 'volume') ?? textIn(body, 'volume'),
    subject: textIn(params, 'upload') ?? textIn(params, 'item') ?? textIn(params, 'scope') ?? textIn(body, 'operation'),
  }
}

function textIn(value: unknown, name: string): string | undefined {
  const member = memberOf(value, name)
  return typeof member === 'string' && member !== '' ? member : undefined
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
