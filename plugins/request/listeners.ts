import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { currentContext, enterContext } from '../../lib/context.ts'
import { type Config, ConfigError, type Listener } from '../config.ts'
import { routeNotFound } from './errors.ts'

/** Who an address is for; each API answers at its own only. */
export type Face = 'public' | 'manager' | 'backendAiManager' | 'backendAiClient'

declare module 'fastify' {
  interface FastifyInstance {
    /** Listens on the configured addresses. */
    listenAll(): Promise<void>
    /** An onRequest hook that answers 404 at the public address, when there are two addresses. */
    requireManagerListener(request: FastifyRequest): Promise<void>
    /** The same for signed URLs, which only the public address answers. */
    requirePublicListener(request: FastifyRequest): Promise<void>
    /** The same for what Backend.AI's manager asks: an address of its own, else the manager's. */
    requireBackendAiManagerListener(request: FastifyRequest): Promise<void>
    /** The same for what Backend.AI's clients ask: an address of their own, else the public one. */
    requireBackendAiClientListener(request: FastifyRequest): Promise<void>
    /** Which address a request came to. */
    faceOf(request: FastifyRequest): Face
    /** What signed URLs start with. */
    publicUrl(): string
  }
}

/** An address besides the public one. */
interface Further {
  face: Exclude<Face, 'public'>
  listener: Listener
  variables: string
  says: string
  /** What its URLs stand below, inside the service. */
  prefix?: string
}

function furtherOf({ managerListener, backendAi }: Config): Further[] {
  const all = [
    {
      face: 'manager' as const,
      listener: managerListener,
      variables: 'MANAGER_HOST and MANAGER_PORT',
      says: 'manager API listening at',
    },
    {
      face: 'backendAiManager' as const,
      listener: backendAi?.managerListener,
      variables: 'BACKEND_AI_MANAGER_HOST and BACKEND_AI_MANAGER_PORT',
      says: "Backend.AI's manager is heard at",
      prefix: backendAi?.prefix ?? '',
    },
    {
      face: 'backendAiClient' as const,
      listener: backendAi?.clientListener,
      variables: 'BACKEND_AI_CLIENT_HOST and BACKEND_AI_CLIENT_PORT',
      says: "Backend.AI's clients are heard at",
      prefix: backendAi?.prefix ?? '',
    },
  ]
  return all.flatMap(({ listener, ...more }) => (listener === undefined ? [] : [{ listener, ...more }]))
}

/** The public address and, when configured, further ones: for the manager API and operations, and for Backend.AI. */
export default fp(
  async (app) => {
    const { host, port, publicUrl } = app.config
    const further = furtherOf(app.config)
    const has = (face: Face) => further.some((one) => one.face === face)
    const connections = new WeakMap<object, Further>()
    const servers: Server[] = []

    const faceOf = (request: FastifyRequest): Face => connections.get(request.raw.socket)?.face ?? 'public'
    app.decorate('faceOf', faceOf)

    const onlyAt = (face: Face) => async (request: FastifyRequest) => {
      if (faceOf(request) !== face) throw routeNotFound(request.raw)
    }
    const managerFace = has('manager') ? 'manager' : 'public'
    app.decorate('requireManagerListener', onlyAt(managerFace))
    app.decorate('requirePublicListener', onlyAt('public'))
    app.decorate('requireBackendAiManagerListener', onlyAt(has('backendAiManager') ? 'backendAiManager' : managerFace))
    app.decorate('requireBackendAiClientListener', onlyAt(has('backendAiClient') ? 'backendAiClient' : 'public'))

    async function listen(one: Further): Promise<void> {
      // The HTTP server takes connections from elsewhere too (node:http, event 'connection'), so all addresses have the
      // same routes, limits and timeouts.
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        connections.set(socket, one)
        app.server.emit('connection', socket)
      })
      servers.push(server)
      server.listen(one.listener)
      await once(server, 'listening').catch(refuse(one.variables))
      app.log.info(`${one.says} ${urlOf(server.address())}`)
    }

    if (further.some(({ prefix }) => prefix !== undefined)) {
      // Not Fastify's `rewriteUrl`, which would log the URL, and with it a token.
      app.server.prependListener('request', (request: IncomingMessage & { originalUrl?: string }) => {
        const prefix = connections.get(request.socket)?.prefix
        if (prefix === undefined) return
        request.originalUrl = request.url ?? ''
        request.url = prefix + request.originalUrl
      })
    }

    app.decorate('listenAll', async () => {
      const context = currentContext()
      // In a worker Fastify logs this when its supervisor answers, which is outside of any context.
      const listenTextResolver = (address: string) => {
        if (context !== undefined) enterContext(context)
        return `Server listening at ${address}`
      }
      for (const one of further) await listen(one)
      await app.listen({ host, port, listenTextResolver }).catch(refuse('HOST and PORT'))
    })

    app.decorate('publicUrl', () => publicUrl ?? urlOf(app.server.address()))

    app.addHook('preClose', async () => {
      for (const server of servers) server.close()
    })
  },
  { name: 'listeners', dependencies: ['config', 'errors'] },
)

/** An address that is taken, not of this host or not permitted is an error in the configuration. */
function refuse(variables: string): (error: Error) => never {
  return (error) => {
    throw new ConfigError(`${variables} must be an address to listen on: ${error.message}`, { cause: error })
  }
}

function urlOf(address: AddressInfo | string | null): string {
  if (address === null || typeof address === 'string') throw new Error('the service does not listen on a port')
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `http://${host}:${address.port}`
}
