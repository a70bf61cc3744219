import Fastify, { LogController } from 'fastify'
import { createLoggers } from '../plugins/logging.ts'
import requestId, { requestIdOf } from '../plugins/request-id.ts'

// Both log as the service does; Fastify's own request ID is what the one without the plugin has.
const [, , port, plugin] = process.argv
const withPlugin = plugin === 'with'
const loggers = createLoggers('info')
const app = Fastify(
  withPlugin
    ? { ...loggers, genReqId: requestIdOf, logController: new LogController({ requestIdLogLabel: 'request_id' }) }
    : { loggerInstance: loggers.loggerInstance },
)
if (withPlugin) await app.register(requestId)
app.get('/', (_request, reply) => reply.send(''))
await app.listen({ port: Number(port), host: '127.0.0.1' })
