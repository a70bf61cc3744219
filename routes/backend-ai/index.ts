import type { FastifyInstance } from 'fastify'
import type { BackendAi } from '../../plugins/config.ts'
import { handleNotFound } from '../../plugins/request/errors.ts'
import client from './client/index.ts'
import { answerError } from './errors.ts'
import manager from './manager/index.ts'
import { echoRequestId } from './request-id.ts'
import status from './status.ts'
import { createTokens } from './token.ts'

/**
 * The wire of Backend.AI's storage-proxy, so that its manager and its clients need another address and nothing else:
 * docs/backend-ai.md. It has two faces, each at an address of its own or below the prefix at ours.
 */
export default async function backendAi(app: FastifyInstance, { settings }: { settings: BackendAi }): Promise<void> {
  // Its manager sends JSON with a GET. Every other route keeps refusing a body (`request-body.ts`).
  app.addHttpMethod('GET', { hasBody: true, overrideExisting: true })
  app.setErrorHandler(answerError)
  app.setNotFoundHandler(handleNotFound)
  echoRequestId(app, settings.requestId)
  // Not a part of our own API.
  app.addHook('onRoute', (route) => {
    route.schema = { ...route.schema, hide: true }
  })

  const tokens = createTokens(app)
  await app.register(status)
  await app.register(manager, { settings, tokens })
  await app.register(client, { tokens, requestIdHeader: settings.requestId.name })
}
