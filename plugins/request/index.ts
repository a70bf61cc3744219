import fp from 'fastify-plugin'
import clientErrors from './client-errors.ts'
import abort from './connection/abort.ts'
import farewell from './connection/farewell.ts'
import handlers from './connection/handlers.ts'
import idle from './connection/idle.ts'
import errors from './errors.ts'
import headers from './headers.ts'
import json from './json.ts'
import listeners from './listeners.ts'
import methods from './methods.ts'
import openapi from './openapi.ts'
import overload from './overload/index.ts'
import preconditions from './preconditions.ts'
import requestBody from './request-body.ts'
import requestId from './request-id.ts'
import validation from './validation.ts'

/** What every request goes through: its ID, its errors, its rules. */
export default fp(
  async (app) => {
    await app.register(requestId)
    await app.register(farewell)
    await app.register(abort)
    await app.register(idle)
    await app.register(handlers)
    await app.register(errors)
    await app.register(clientErrors)
    await app.register(overload)
    await app.register(headers)
    await app.register(requestBody)
    await app.register(preconditions)
    await app.register(json)
    await app.register(validation)
    await app.register(methods)
    await app.register(listeners)
    await app.register(openapi)
  },
  { name: 'request', dependencies: ['config'] },
)
