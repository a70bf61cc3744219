import type { FastifyInstance } from 'fastify'
import type { BackendAi } from '../../../plugins/config.ts'
import { auditRequests } from '../../audit.ts'
import artifacts from '../artifacts/index.ts'
import type { Tokens } from '../token.ts'
import { requireSecret } from './auth.ts'
import background from './background.ts'
import entries from './entries.ts'
import fetch from './fetch.ts'
import folders from './folders.ts'
import list from './list.ts'
import { tellWhatIsNamed } from './named.ts'
import { answerForNoop } from './noop.ts'
import quotaScopes from './quota-scopes.ts'
import sessions from './sessions.ts'
import volumes from './volumes.ts'

export interface ManagerOptions {
  settings: BackendAi
  tokens: Tokens
}

/** What the manager of Backend.AI asks: every route of this scope needs its secret. */
export default async function manager(app: FastifyInstance, { settings, tokens }: ManagerOptions): Promise<void> {
  app.addHook('onRequest', app.requireBackendAiManagerListener)
  app.addHook('onRequest', requireSecret(settings.managerSecrets))
  answerForNoop(app)
  auditRequests(app)
  tellWhatIsNamed(app)
  for (const routes of [volumes, quotaScopes, folders, list, entries, background, fetch]) await app.register(routes)
  await app.register(artifacts, { setting: settings.artifacts })
  await app.register(sessions, { tokens, seconds: settings.tokenSeconds })
}
