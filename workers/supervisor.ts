import cluster from 'node:cluster'
import { isatty } from 'node:tty'
import closeWithGrace from 'close-with-grace'
import { inContext, newRequestId } from '../lib/context.ts'
import type { Config } from '../plugins/config.ts'
import { createLogger, openLog } from '../plugins/request/logging.ts'
import { createCounted } from './counted.ts'
import { type End, startWorker, type Worker } from './worker.ts'

/** Before a worker that ended is started again: doubled each time, up to the longest, until one lives for a while. */
const firstPause = 100
const longestPause = 30_000
const whileMilliseconds = 60_000
/** A worker has cut its transfers, and ended, five seconds after its time limit; one that did not is stuck. */
const killAfter = 7000
const exitAfter = 10_000

/**
 * Keeps `workers` processes of the service on one port: starts again what ends, closes all on SIGTERM and SIGINT, and
 * replaces one after the other on SIGHUP. It serves nothing itself.
 */
export function supervise({ workers: count, logLevel, shutdownTimeoutSeconds }: Config): void {
  const grace = shutdownTimeoutSeconds * 1000
  const destination = openLog(logLevel)
  const logger = createLogger(logLevel, destination)
  const workers = new Set<Worker>()
  const counted = createCounted(workers)
  const staying = () => [...workers].filter(({ leaving }) => !leaving).length
  let complete = false
  let closing = false
  let rolling = false
  let rollAgain = false

  // The workers take connections from one queue of the kernel, whoever has time. With `reusePort` each has a queue of
  // its own, and what waits there is reset when it closes; with SCHED_RR the supervisor has work with each connection.
  cluster.schedulingPolicy = cluster.SCHED_NONE
  // Long lines of several processes on one pipe would be torn: each has its own, and the supervisor writes all lines. A
  // process of Node that ends takes O_NONBLOCK from what it has inherited, and so from all who share it.
  const own = (stream: NodeJS.WriteStream) => (stream.isTTY ? 'inherit' : 'pipe')
  cluster.setupPrimary({ stdio: ['ignore', own(process.stdout), own(process.stderr), 'ipc'] })

  function start(pause = firstPause): Worker {
    const worker = startWorker(destination)
    const since = performance.now()
    workers.add(worker)
    counted.follow(worker)
    logger.info({ worker: worker.pid }, 'worker started')
    worker.listening.then((listens) => {
      if (!listens) return
      logger.info({ worker: worker.pid, start_milliseconds: Math.round(performance.now() - since) }, 'worker listens')
      completeStart()
    })
    worker.ended.then((end) => {
      workers.delete(worker)
      if (worker.leaving) return
      const lived = performance.now() - since
      inOwnContext(() => startAgain(worker, end, lived > whileMilliseconds ? firstPause : pause))
    })
    return worker
  }

  /** The others wait for the first one, so that what keeps all of them from starting is said once. */
  function completeStart(): void {
    if (complete) return
    complete = true
    while (workers.size < count && !closing) start()
    if (rollAgain) inOwnContext(roll)
  }

  function startAgain(worker: Worker, end: End, pause: number): void {
    logger.warn({ worker: worker.pid, ...end }, 'worker ended')
    // It has said why on stderr, and nobody else can do its work.
    if (end.code === 1 && !worker.listens && ![...workers].some(({ listens }) => listens)) process.exit(1)
    if (staying() >= count || closing) return
    logger.info({ restart_milliseconds: pause }, `a worker is started again in ${pause} ms`)
    setTimeout(() => {
      if (staying() < count && !closing) start(Math.min(2 * pause, longestPause))
    }, pause)
  }

  async function leave(worker: Worker): Promise<boolean> {
    worker.leave()
    const timer = setTimeout(worker.kill, grace + killAfter)
    const end = await worker.ended
    clearTimeout(timer)
    logger.info({ worker: worker.pid, ...end }, 'worker ended')
    return end.code === 0 || !worker.listens
  }

  /** The new worker listens before the old one stops. A wish that comes before it can be fulfilled waits. */
  async function roll(): Promise<void> {
    rollAgain = rolling || !complete
    if (rollAgain || closing) return
    rolling = true
    logger.info('rolling: each worker is replaced by a new one')
    const replaced = await replaceAll([...workers])
    rolling = false
    if (closing) return
    if (replaced) logger.info('rolled')
    else logger.error('the roll stops, since a new worker cannot start; the old ones go on')
    if (rollAgain) inOwnContext(roll)
  }

  async function replaceAll(olds: Worker[]): Promise<boolean> {
    for (const old of olds) {
      // Again when the new one was needed in the place of one that died in the meantime.
      while (workers.has(old) && !closing) {
        if (!(await start().listening)) return false
        if (staying() > count) await leave(old)
      }
    }
    return true
  }

  async function close({ signal, err }: { signal?: string; err?: Error }): Promise<void> {
    closing = true
    if (err) logger.fatal({ err }, 'the service ends because of an error of the supervisor')
    else logger.info({ signal }, 'the service closes')
    const inOrder = await Promise.all([...workers].filter(({ leaving }) => !leaving).map(leave))
    await Promise.all([...workers].map(({ ended }) => ended))
    if (inOrder.includes(false)) throw new Error('not every worker closed in order')
  }

  const { close: closeNow } = closeWithGrace({ delay: grace + exitAfter, logger, skip: ['SIGHUP'] }, (reason) =>
    inOwnContext(() => close(reason)),
  )
  process.on('SIGHUP', () => {
    // A terminal that is gone asks for no roll.
    if (process.stdout.isTTY && !isatty(process.stdout.fd)) closeNow()
    else inOwnContext(roll)
  })
  process.on('exit', () => {
    for (const { kill } of workers) kill()
  })
  start()
}

/** Each event has a request ID of its own, with all that follows from it. */
function inOwnContext<Result>(fn: () => Result): Result {
  return inContext({ request_id: newRequestId() }, fn)
}
