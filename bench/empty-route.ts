import Fastify from 'fastify'
import { createLoggers } from '../plugins/logging.ts'
import requestId, { requestIdOf } from '../plugins/request-id.ts'

// Both log as the service does; Fastify's own request ID is what the one without the plugin has.
const [, , port, plugin] = process.argv
const withPlugin = plugin === 'with'
const { loggerInstance, logController } = createLoggers('info')
const app = Fastify(withPlugin ? { loggerInstance, logController, genReqId: requestIdOf } : { loggerInstance })
if (withPlugin) await app.register(requestId)
app.get('/', (_request, reply) => reply.send(''))
await app.listen({ port: Number(port), host: '127.0.0.1' })
