import type { FastifyInstance } from 'fastify'

/** Before a token is looked at, so that guesses count. A browser's preflight is answered: it could not read a refusal. */
export function limitAddresses(app: FastifyInstance): void {
  const { ofAddress } = app.requestRates
  if (ofAddress === undefined) return
  app.addHook('onRequest', async (request) => {
    if (request.method !== 'OPTIONS') await ofAddress(request)
  })
}
