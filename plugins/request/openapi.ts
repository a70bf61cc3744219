import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'
import manifest from '../../package.json' with { type: 'json' }
import { completeDocument, nameWildcard } from './openapi-document.ts'

/** The OpenAPI document at /openapi.json and a page to read it at /docs, both made from the routes' schemas. */
export default fp(
  async (app) => {
    const { publicUrl } = app.config
    await app.register(swagger, {
      transform: nameWildcard,
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Storage-proxy',
          description: 'The file service between a control plane and its storage.',
          version: manifest.version,
        },
        servers: [
          { url: '/', description: 'the address that this document is at' },
          ...(publicUrl === undefined ? [] : [{ url: publicUrl, description: 'where signed URLs lead' }]),
        ],
        components: {
          securitySchemes: {
            manager: { type: 'http', scheme: 'bearer', description: 'a token of the manager' },
            signedUrl: { type: 'apiKey', in: 'query', name: 'token', description: 'the token of a signed URL' },
          },
        },
        tags: [
          { name: 'volumes', description: 'Where vfolders can be' },
          { name: 'folders', description: 'vfolders' },
          { name: 'files', description: 'The entries of a vfolder' },
          { name: 'trash', description: 'What was deleted and can be restored' },
          { name: 'quota scopes', description: 'Limits over all vfolders of one owner' },
          { name: 'jobs', description: 'Work that goes on after the answer' },
          { name: 'events', description: 'What has happened, and who is told of it' },
          { name: 'client', description: 'For clients that hold a signed URL instead of a manager token' },
          { name: 'operations', description: 'For people who run the service' },
        ],
      },
      transformObject: (made) => ('openapiObject' in made ? completeDocument(made.openapiObject) : made.swaggerObject),
      refResolver: { buildLocalReference: (json, _base, _fragment, i) => String(json.title ?? json.$id ?? `def-${i}`) },
    })
    await app.register(async (scope) => {
      scope.addHook('onRequest', scope.requireManagerListener)
      await scope.register(swaggerUi, { routePrefix: '/docs' })
      scope.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
    })
  },
  { name: 'openapi', dependencies: ['config', 'errors', 'listeners'] },
)
