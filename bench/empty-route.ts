import Fastify, { LogController } from 'fastify'
import pino from 'pino'
import requestId, { requestIdLogging, requestIdOf } from '../plugins/request-id.ts'

// Both log as the service does; Fastify's own request ID is what the one without the plugin has.
const [, , port, plugin] = process.argv
const withPlugin = plugin === 'with'
const logger = pino(withPlugin ? requestIdLogging : {})
const app = Fastify({
  loggerInstance: logger,
  ...(withPlugin && { genReqId: requestIdOf, logController: new LogController({ requestIdLogLabel: 'request_id' }) }),
})
if (withPlugin) await app.register(requestId)
app.get('/', (_request, reply) => reply.send(''))
await app.listen({ port: Number(port), host: '127.0.0.1' })
