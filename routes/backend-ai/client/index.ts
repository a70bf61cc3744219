import type { FastifyInstance } from 'fastify'
import cors from '../../../plugins/request/cors.ts'
import { handleNotFound } from '../../../plugins/request/errors.ts'
import { auditRequests } from '../../audit.ts'
import { limitAddresses } from '../../limit-addresses.ts'
import { answerFileError } from '../file-errors.ts'
import type { Tokens } from '../token.ts'
import archive from './archive.ts'
import download from './download.ts'
import upload from './upload.ts'

export interface ClientOptions {
  tokens: Tokens
  /** Which these clients know besides ours. */
  requestIdHeader: string
}

/** What the clients of Backend.AI ask, with a token that its manager gave them; pages of other origins may too. */
export default async function client(app: FastifyInstance, { tokens, requestIdHeader }: ClientOptions): Promise<void> {
  app.addHook('onRequest', app.requireBackendAiClientListener)
  app.setErrorHandler(answerFileError)
  auditRequests(app)
  for (const [prefix, routes] of Object.entries({
    '/download': download,
    '/download-archive': archive,
    '/upload': upload,
  })) {
    await app.register(
      async (app) => {
        await app.register(cors, { moreExposed: [requestIdHeader] })
        limitAddresses(app)
        app.setNotFoundHandler(handleNotFound)
        await app.register(routes, { tokens })
      },
      { prefix },
    )
  }
}
