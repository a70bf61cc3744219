import type { FastifyInstance } from 'fastify'
import type { Tokens } from '../token.ts'

/** What the clients of Backend.AI ask, with a token that its manager gave them. */
export default async function client(app: FastifyInstance, _options: { tokens: Tokens }): Promise<void> {
  app.addHook('onRequest', app.requireBackendAiClientListener)
}
