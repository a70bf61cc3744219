import type { FastifyInstance } from 'fastify'
import type { Tokens } from '../token.ts'
import { requireSecret } from './auth.ts'
import volumes from './volumes.ts'

export interface ManagerOptions {
  secrets: string[]
  tokens: Tokens
}

/** What the manager of Backend.AI asks: every route of this scope needs its secret. */
export default async function manager(app: FastifyInstance, { secrets }: ManagerOptions): Promise<void> {
  app.addHook('onRequest', app.requireBackendAiManagerListener)
  app.addHook('onRequest', requireSecret(secrets))
  for (const routes of [volumes]) await app.register(routes)
}
