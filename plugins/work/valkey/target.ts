import type { FastifyBaseLogger } from 'fastify'
import { Valkey } from 'iovalkey'
import { newRequestId, withRequestId } from '../../../lib/context.ts'
import type { Event } from '../events/event.ts'
import type { Target } from '../events/target.ts'
import type { Job } from '../job-queue/job.ts'
import { messagesOf, progressOf, toBroadcast, toFields } from './messages.ts'

/** Of Backend.AI, which gives each of its uses of Valkey a database; the URL may name another one. */
const database = 4
/** Read by one of the managers, by a consumer group. */
const stream = 'events'
/** As its own producers have it. It has been read long before, and this bounds what lies there when no manager runs. */
const streamLength = 128
/** Read by all managers, for those who watch a task just then. */
const channel = 'events_all'
/** What those learn who come later. */
const lastNewsSeconds = 300

const connectMilliseconds = 5000
const commandMilliseconds = 10_000
const longestDelayMilliseconds = 5000

/** Many events of one vfolder hardly ever wait. */
const batch = 50
const concurrency = 4

/** Tells Backend.AI's manager, as its own storage-proxy does. */
export function createValkeyTarget(url: URL, log: FastifyBaseLogger) {
  const client = new Valkey(url.href, {
    db: url.pathname.length > 1 ? Number(url.pathname.slice(1)) : database,
    ...(['rediss:', 'valkeys:'].includes(url.protocol) && { tls: {} }),
    connectionName: 'storage-proxy',
    lazyConnect: true,
    connectTimeout: connectMilliseconds,
    commandTimeout: commandMilliseconds,
    // The outbox keeps what cannot be sent.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times) => Math.min(longestDelayMilliseconds, 100 * 2 ** Math.min(times, 10)),
  })
  let isAway = false
  client.on('error', (err: Error) => {
    if (!isAway) log.warn({ err }, 'Valkey is away')
    isAway = true
  })
  client.on('ready', () => {
    if (isAway) log.info('Valkey is back')
    isAway = false
  })

  // Its lines are about the connection, and not about whoever was the first to need it.
  const connect = withRequestId(() => client.connect(), newRequestId())

  /** It connects again by itself from then on. */
  async function connected(): Promise<void> {
    if (client.status === 'wait' || client.status === 'end') await connect()
  }

  /** Sends commands in one trip. @throws when one of them fails */
  async function send(commands: ReturnType<typeof client.pipeline>): Promise<void> {
    if (commands.length === 0) return
    await connected()
    const failed = (await commands.exec())?.find(([error]) => error !== null)
    if (failed?.[0]) throw failed[0]
  }

  const broadcast = (commands: ReturnType<typeof client.pipeline>, id: string, message: string) =>
    commands.set(`bgtask.${id}`, message, 'EX', lastNewsSeconds).publish(channel, message)

  return {
    name: 'valkey',
    order: 'vfolder',
    concurrency,
    batch,
    insists: true,

    async deliver(events: Event[]) {
      const commands = client.pipeline()
      for (const one of events) {
        const { event, task } = messagesOf(one)
        if (event) commands.xadd(stream, 'MAXLEN', '~', streamLength, '*', ...toFields(event))
        if (task) broadcast(commands, task.id, toBroadcast(task))
      }
      await send(commands)
    },

    /** Of no use any more when it cannot be told at once. */
    async tellProgress(job: Job): Promise<void> {
      const commands = broadcast(client.pipeline(), job.id, toBroadcast(progressOf(job)))
      await send(commands).catch((err) => log.debug({ err, job_id: job.id }, 'the progress of a job was not told'))
    },

    close: () => client.disconnect(),
  } satisfies Target & { tellProgress(job: Job): Promise<void> }
}
