import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { Valkey } from 'iovalkey'
import { type Answer, eventually, type Teardown, temporaryDirectory } from './server.ts'
import { searchPath } from './tools.ts'

/** Of the manager's consumers. */
const group = 'manager'

export interface StreamEvent {
  name: string
  source: string
  payload: Answer
  metadata: Answer
  /** In hexadecimal. */
  args: string
}

/** A server of the test's own, and Backend.AI's manager, as far as it reads. */
export class ValkeyServer {
  readonly url: string
  readonly #port: number
  readonly #directory: string
  readonly #clients: Valkey[] = []
  #process: ChildProcess | undefined

  constructor(port: number, directory: string) {
    this.#port = port
    this.#directory = directory
    this.url = `valkey://127.0.0.1:${port}`
  }

  async start(...options: string[]): Promise<void> {
    const args = [
      '--port',
      String(this.#port),
      '--bind',
      '127.0.0.1',
      '--dir',
      this.#directory,
      '--save',
      '',
      ...options,
    ]
    this.#process = spawn('redis-server', args, { env: { PATH: searchPath }, stdio: 'ignore' })
    await once(this.#process, 'spawn')
    const client = this.connect()
    await eventually(() => client.ping().catch(() => false))
    await client.xgroup('CREATE', 'events', group, '0', 'MKSTREAM')
  }

  async stop(): Promise<void> {
    for (const client of this.#clients.splice(0)) client.disconnect()
    if (this.#process === undefined || this.#process.exitCode !== null) return
    const exited = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exited
  }

  connect(): Valkey {
    const client = new Valkey({ port: this.#port, db: 4 })
    client.on('error', () => {})
    this.#clients.push(client)
    return client
  }

  /** What the manager has not read yet, or waits for; taken by its group and acknowledged. */
  async read(): Promise<StreamEvent[]> {
    const client = this.connect()
    const wanted = ['GROUP', group, 'one', 'COUNT', 10, 'BLOCK', 20_000, 'STREAMS', 'events', '>']
    const answer: Answer = await client.callBuffer('XREADGROUP', wanted)
    const entries: [Buffer, Buffer[]][] = answer?.[0]?.[1] ?? []
    const events: StreamEvent[] = []
    for (const [id, pairs] of entries) {
      await client.xack('events', group, id)
      const fields = new Map(
        pairs.map((name, index) => [name.toString(), pairs[index + 1]!] as const).filter((_, i) => i % 2 === 0),
      )
      const text = (name: string) => fields.get(name)!.toString()
      const [payload, metadata] = [JSON.parse(text('payload')), JSON.parse(text('metadata'))]
      events.push({
        name: text('name'),
        source: text('source'),
        payload,
        metadata,
        args: fields.get('args')!.toString('hex'),
      })
    }
    return events
  }
}

export async function startValkey(t: Teardown): Promise<ValkeyServer> {
  const server = new ValkeyServer(await freePort(), await temporaryDirectory(t))
  await server.start()
  t.teardown(() => server.stop())
  return server
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}
