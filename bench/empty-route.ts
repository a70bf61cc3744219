import { createServer, type RequestListener } from 'node:http'
import { cpuUsage } from 'node:process'
import Fastify, { type FastifyServerOptions } from 'fastify'
import { createLoggers } from '../plugins/request/logging.ts'
import requestId, { requestIdOf } from '../plugins/request/request-id.ts'

// Two services in turn behind one server, so that both have the same code, the same heap and the same neighbours. Both
// log as the service does; Fastify's own request ID is what the one without the plugin has.
const port = Number(process.argv[2])
const windowMilliseconds = 25
const { loggerInstance, logController } = createLoggers('info')

async function emptyRoute(options: FastifyServerOptions, withPlugin: boolean): Promise<RequestListener> {
  const { promise, resolve } = Promise.withResolvers<RequestListener>()
  const serverFactory = (handler: RequestListener) => {
    resolve(handler)
    return createServer()
  }
  const app = Fastify({ ...options, loggerInstance, serverFactory })
  if (withPlugin) await app.register(requestId)
  app.get('/', (_request, reply) => reply.send(''))
  await app.ready()
  return promise
}

const services = {
  peer: { handle: await emptyRoute({}, false), rates: [] as number[] },
  ours: { handle: await emptyRoute({ logController, genReqId: requestIdOf }, true), rates: [] as number[] },
}
let now: keyof typeof services = 'peer'
let requests = 0
let before = cpuUsage()

const server = createServer((request, response) => {
  if (request.url === '/rates') {
    response.end(JSON.stringify({ ours: services.ours.rates, peer: services.peer.rates }))
    return
  }
  requests++
  services[now].handle(request, response)
})
server.listen(port, '127.0.0.1')

setInterval(() => {
  const { user, system } = cpuUsage(before)
  if (requests > 0) services[now].rates.push(requests / ((user + system) / 1e6))
  now = now === 'peer' ? 'ours' : 'peer'
  requests = 0
  before = cpuUsage()
}, windowMilliseconds)
