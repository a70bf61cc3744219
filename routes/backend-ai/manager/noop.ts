import type { FastifyInstance } from 'fastify'

/** The name of a volume that every storage-proxy of Backend.AI has: where vfolders are that it does not keep. */
const name = 'noop'

type Answer = [status: number, body?: object]

const nothing = (): Answer => [204]
const listed = () => {
  const now = new Date().toISOString().replace('Z', '000+00:00')
  const stat = { mode: 0, size: 0, created: now, modified: now }
  return { items: [{ name: '', type: 'FILE', stat, symlink_target: '' }] }
}
const made = (relpath: unknown) => ({
  results: { success: [relpath].flat().map((item) => ({ msg: null, item })), failed: [] },
})

/**
 * What it answers, by method and path; it has nothing, and what would change it succeeds. For what a job does there is one,
 * since the manager waits for its end: `background.ts`.
 */
const answers: Record<string, (body: { relpath?: unknown }) => Answer> = {
  'GET /volume/hwinfo': () => [200, { status: 'healthy', status_info: null, metadata: {} }],
  'GET /folder/fs-usage': () => [200, { capacity_bytes: 0, used_bytes: 0 }],
  'POST /quota-scope': nothing,
  'GET /quota-scope': () => [200, { used_bytes: null, limit_bytes: null }],
  'PATCH /quota-scope': nothing,
  'DELETE /quota-scope/quota': nothing,
  'POST /folder/create': nothing,
  'GET /folder/mount': () => [200, { path: '.' }],
  'GET /folder/usage': () => [200, { file_count: 0, used_bytes: 0 }],
  'GET /folder/used-bytes': () => [200, { used_bytes: 0 }],
  'GET /folder/metadata': () => [200, { status: 'ok' }],
  'POST /folder/metadata': () => [200, { status: 'ok' }],
  'POST /folder/file/mkdir': ({ relpath }) => [200, made(relpath)],
  'POST /folder/file/list': () => [200, listed()],
  'POST /folder/file/rename': nothing,
  'POST /folder/file/move': nothing,
  'POST /folder/file/delete': () => [200, { status: 'ok' }],
}

/** Unless there is a volume of that name. */
export function isNoop(volume: unknown, app: FastifyInstance): boolean {
  return volume === name && !app.volumes.all().some((one) => one.name === name)
}

/** Answers for the volume `noop` in the place of the routes. */
export function answerForNoop(app: FastifyInstance): void {
  app.addHook('preHandler', (request, reply, done) => {
    const body = Object(request.body)
    const path = request.routeOptions.url?.slice(app.prefix.length)
    const answer = isNoop(body.volume, app) ? answers[`${request.method} ${path}`]?.(body) : undefined
    if (answer === undefined) return done()
    const [status, content] = answer
    reply.code(status).send(content)
  })
}
