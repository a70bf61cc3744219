import type { FastifyInstance, FastifyReply, FastifyRequest, preHandlerHookHandler } from 'fastify'
import { currentContext, type LogContext } from '../lib/context.ts'
import { isRefusal } from '../lib/problems.ts'
import { requestEnded } from '../plugins/request/connection/abort.ts'
import { receivedOf } from '../plugins/transfer/body.ts'
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
    const ended = outcomeOf(reply, auditFacts?.outcome)
    const isDone = ended.outcome === 'succeeded' || ended.outcome === 'begun'
    if (isDone && app.audit.knows(audited, action)) return
    const bytes = receivedOf(request.raw)
    const facts = { ...placeOf(request, action), ...auditFacts, bytes, ...reply.sentSoFar, ...ended, action }
    const volume = facts.volume ?? (facts.folder && app.vfolders.lastVolumeOf(facts.folder))
    app.audit.note({ ...facts, volume }, audited)
  })
  app.addHook('onClose', async () => end())
}

/** @param told what the handler says of a success */
function outcomeOf(reply: FastifyReply, told: Outcome | undefined): { outcome: Outcome; code?: string } {
  const { statusCode, problemCode } = reply
  if (!reply.raw.writableFinished) return { outcome: 'aborted' }
  if (statusCode < 400) return { outcome: told ?? (goesOn(reply) ? 'begun' : 'succeeded') }
  if (problemCode === null) return { outcome: statusCode < 500 ? 'refused' : 'failed' }
  return { outcome: isRefusal(problemCode) ? 'refused' : 'failed', code: problemCode }
}

/** Whether a job does what was asked for, and tells of it when it is done. */
function goesOn(reply: FastifyReply): boolean {
  return reply.statusCode === 202 && reply.hasHeader('location')
}

/** What the request names, as each route of the API calls it. */
function placeOf(request: FastifyRequest, action: Action): Partial<Facts> {
  const { params, query, body } = request
  const paths = memberOf(body, 'paths')
  const count = Array.isArray(paths) && paths.length !== 1 ? paths.length : undefined
  const only: unknown = Array.isArray(paths) && paths.length === 1 ? paths[0] : undefined
  const path = textIn(params, '*') ?? textIn(body, 'to') ?? textIn(body, 'path') ?? textIn(query, 'path')
  return {
    path: path ?? (typeof only === 'string' ? only : undefined),
    count,
    volume: textIn(params, 'volume') ?? textIn(body, 'volume'),
    ...aboutOf(request, action),
  }
}

/** The vfolder, and what else it is about: of what comes from somewhere, the one that it comes to, and from where. */
function aboutOf({ params, query, body }: FastifyRequest, action: Action): Pick<Facts, 'folder' | 'subject'> {
  const id = textIn(params, 'id')
  if (action.startsWith('job.')) return { subject: id }
  if (action === 'folder.clone') return { folder: textIn(body, 'id'), subject: id }
  const from = textIn(body, 'from')
  if (from !== undefined) return { folder: textIn(body, 'toFolder') ?? id, subject: `${id}/${from}` }
  return {
    folder: id ?? textIn(params, 'folder') ?? textIn(query, 'folder') ?? textIn(body, 'id'),
    subject:
      textIn(params, 'upload') ??
      textIn(params, 'item') ??
      textIn(params, 'scope') ??
      textIn(body, 'target') ??
      textIn(body, 'operation'),
  }
}

function textIn(value: unknown, name: string): string | undefined {
  const member = memberOf(value, name)
  return typeof member === 'string' && member !== '' ? member : undefined
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
