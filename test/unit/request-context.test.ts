import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import Fastify from 'fastify'
import t from 'tap'
import { currentRequestId } from '../../lib/context.ts'
import abort from '../../plugins/request/connection/abort.ts'
import requestId, { requestIdHeader, requestIdOf } from '../../plugins/request/request-id.ts'

t.test('the context of a request goes with its work, and ends with the event that brought it', async (t) => {
  const outside: (string | undefined)[] = []
  const inside: Record<string, (string | undefined)[]> = {}
  const app = Fastify({
    genReqId: (request) => {
      outside.push(currentRequestId())
      return requestIdOf(request)
    },
  })
  await app.register(requestId)
  app.route({
    method: ['GET', 'POST'],
    url: '/',
    handler: async (request) => {
      const seen = [currentRequestId()]
      await sleep(20)
      seen.push(currentRequestId())
      inside[request.id] = seen
      return ''
    },
  })
  app.server.on('connection', (socket) => {
    socket.on('close', () => outside.push(currentRequestId()))
  })
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => app.close())

  const socket = connect(Number(port), '127.0.0.1').resume()
  const head = (method: string, id: string) => `${method} / HTTP/1.1\r\nHost: x\r\n${requestIdHeader}: ${id}\r\n`
  const body = JSON.stringify('x'.repeat(10))
  const post = `${head('POST', 'c')}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
  socket.write(`${head('GET', 'a')}\r\n${head('GET', 'b')}\r\n${post}${body.slice(0, 5)}`)
  await sleep(100)
  socket.write(`${body.slice(5)}${head('GET', 'd')}Connection: close\r\n\r\n`)
  await once(socket, 'close')

  t.same(inside, { a: ['a', 'a'], b: ['b', 'b'], c: ['c', 'c'], d: ['d', 'd'] })
  t.equal(outside.length, 5)
  t.same(new Set(outside), new Set([undefined]), 'what the connection does by itself is no work of a request')
})

t.test('who listens for the end of a request does so in its context', async (t) => {
  const seen: Record<string, string | undefined> = {}
  const app = Fastify({ genReqId: requestIdOf })
  await app.register(requestId)
  await app.register(abort)
  app.get('/', async (request) => {
    request.abortSignal.addEventListener('abort', () => {
      seen[request.id] = currentRequestId()
    })
    await once(request.abortSignal, 'abort')
  })
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => app.close())

  const ask = (...ids: string[]) => {
    const socket = connect(Number(port), '127.0.0.1').resume()
    socket.on('error', () => {})
    socket.write(ids.map((id) => `GET / HTTP/1.1\r\nHost: x\r\n${requestIdHeader}: ${id}\r\n\r\n`).join(''))
    return socket
  }
  const goesAway = ask('goes-away', 'pipelined')
  ask('stays')
  await sleep(100)
  goesAway.destroy()
  await sleep(100)
  t.same(seen, { 'goes-away': 'goes-away', pipelined: 'pipelined' })
  app.abortRequests()
  t.equal(seen.stays, 'stays')
})

t.test("a child of the app's logger keeps its fields, and has those of the context", async (t) => {
  const script = `
    import { createLoggers } from './plugins/request/logging.ts'
    import { inContext } from './lib/context.ts'
    const { loggerInstance } = createLoggers('info')
    inContext({ request_id: 'the-context', trace_id: 'the-trace' }, () =>
      loggerInstance.child({ volume: 'v' }).child({ reqId: 'of the storage' }).info('a line'))`
  const cwd = new URL('../../', import.meta.url)
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { cwd })
  t.match(JSON.parse(stdout), {
    volume: 'v',
    reqId: 'of the storage',
    request_id: 'the-context',
    trace_id: 'the-trace',
  })
})
