import type { FastifyRequest } from 'fastify'
import { setActor } from '../../../lib/context.ts'
import { createSecretCheck } from '../../../plugins/access/secrets.ts'
import { Refusal } from '../refusal.ts'

const header = 'x-backendai-storage-auth-token'

/** An onRequest hook. */
export function requireSecret(secrets: string[]) {
  const isOurs = createSecretCheck(secrets)
  return async ({ headers: { [header]: given } }: FastifyRequest): Promise<void> => {
    if (typeof given !== 'string') throw forbidden('token_required', 'missing')
    if (!isOurs(given)) throw forbidden('token_invalid', 'invalid')
    setActor('manager:backend-ai')
  }
}

function forbidden(code: 'token_required' | 'token_invalid', how: string): Refusal {
  const title = `Forbidden (${how} auth token)`
  const body = { type: 'https://api.backend.ai/probs/storage/forbidden', title }
  return new Refusal(code, title, { status: 403, body })
}
