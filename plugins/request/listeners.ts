import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { currentContext, enterContext } from '../../lib/context.ts'
import { ConfigError } from '../config.ts'
import { routeNotFound } from './errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Listens on the configured addresses. */
    listenAll(): Promise<void>
    /** An onRequest hook that answers 404 at the public address, when there are two addresses. */
    requireManagerListener(request: FastifyRequest): Promise<void>
    /** The same for signed URLs, which only the public address answers. */
    requirePublicListener(request: FastifyRequest): Promise<void>
    /** What signed URLs start with. */
    publicUrl(): string
  }
}

/** The public address and, when configured, a second one for the manager API and operations. */
export default fp(
  async (app) => {
    const { host, port, managerListener, publicUrl } = app.config
    const managerConnections = new WeakSet<object>()
    let managerServer: Server | undefined

    app.decorate('requireManagerListener', async (request: FastifyRequest) => {
      if (managerServer !== undefined && !managerConnections.has(request.raw.socket)) throw routeNotFound(request)
    })

    app.decorate('requirePublicListener', async (request: FastifyRequest) => {
      if (managerConnections.has(request.raw.socket)) throw routeNotFound(request)
    })

    app.decorate('listenAll', async () => {
      const context = currentContext()
      // In a worker Fastify logs this when its supervisor answers, which is outside of any context.
      const listenTextResolver = (address: string) => {
        if (context !== undefined) enterContext(context)
        return `Server listening at ${address}`
      }
      if (managerListener !== undefined) {
        // The HTTP server takes connections from elsewhere too (node:http, event 'connection'), so both addresses have
        // the same routes, limits and timeouts.
        managerServer = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
          managerConnections.add(socket)
          app.server.emit('connection', socket)
        })
        managerServer.listen(managerListener)
        await once(managerServer, 'listening').catch(refuse('MANAGER_HOST and MANAGER_PORT'))
        app.log.info(`manager API listening at ${urlOf(managerServer.address())}`)
      }
      await app.listen({ host, port, listenTextResolver }).catch(refuse('HOST and PORT'))
    })

    app.decorate('publicUrl', () => publicUrl ?? urlOf(app.server.address()))

    app.addHook('preClose', async () => {
      managerServer?.close()
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
