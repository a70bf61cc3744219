import { METHODS } from 'node:http'
import type { FastifyInstance, FastifyRequest, onSendHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../../lib/problems.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Gives every path an answer to the methods that it has no route for; to be called after the last route. */
    answerOtherMethods(): void
  }
  interface FastifyContextConfig {
    /** It is no route of its own, but tells which methods its path takes. */
    tellsMethods?: true
  }
}

interface Path {
  methods: Set<string>
  /** Where its first route is, whose hooks come before the answer. */
  scope: FastifyInstance
}

/**
 * Answers a known path with another method, for which 404 would be wrong: 405, and to an OPTIONS 204, with `Allow` (RFC
 * 9110, sections 9.3.7 and 15.5.6). It does so by routes in the scopes of the paths' own ones, so that a path of the
 * manager asks for its token first.
 */
export default fp(
  async (app) => {
    const paths = new Map<string, Path>()

    const methodsOf = ({ routeOptions: { url = '' } }: FastifyRequest) =>
      [...new Set(paths.get(url)?.methods).add('OPTIONS')].toSorted().join(', ')

    const tell: onSendHookHandler = (request, reply, payload, done) => {
      if (request.method === 'OPTIONS' && reply.statusCode === 204) reply.header('allow', methodsOf(request))
      done(null, payload)
    }

    // Fastify knows no others, such as PROPFIND. CONNECT is about no path.
    for (const method of METHODS) {
      if (method !== 'CONNECT' && !app.supportedMethods.includes(method)) app.addHttpMethod(method)
    }

    app.addHook('onRoute', function (route) {
      const own = [route.method].flat()
      if (own.includes('OPTIONS')) route.onSend = [tell, ...[route.onSend ?? []].flat()]
      if (route.config?.tellsMethods) return
      // Fastify has one route for a prefix with and without a slash.
      const url = route.url === `${route.prefix}/` && route.prefix !== '' ? route.prefix : route.url
      const path = paths.get(url) ?? { methods: new Set(), scope: this }
      for (const method of own) path.methods.add(method)
      paths.set(url, path)
    })

    app.decorate('answerOtherMethods', () => {
      for (const [url, { methods, scope }] of paths) {
        // What has nothing but an OPTIONS for all below it is no path, but CORS.
        if (methods.size === 1 && methods.has('OPTIONS')) continue
        scope.route({
          method: app.supportedMethods.filter((method) => !methods.has(method)),
          url: url.slice(scope.prefix.length) || '/',
          config: { tellsMethods: true },
          schema: { hide: true },
          // Before a body is read, and before a query is looked at.
          onRequest: async (request, reply) => {
            if (request.method === 'OPTIONS') return reply.code(204).send()
            const allow = methodsOf(request)
            throw new Problem('method_not_allowed', `This path takes ${allow}, not ${request.method}.`, {
              headers: { allow },
            })
          },
          handler: () => {},
        })
      }
    })
  },
  { name: 'methods', dependencies: ['errors'] },
)
