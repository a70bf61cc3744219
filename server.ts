import cluster from 'node:cluster'
import { flushCompileCache } from 'node:module'
import closeWithGrace from 'close-with-grace'
import { threadsFor } from './backends/posix/mount/threads.ts'
import { isAnyMountSilent } from './backends/posix/mount/watch.ts'
import { currentRequestId, newRequestId, withRequestId } from './lib/context.ts'
import { type Config, ConfigError, loadConfig, reasonOf } from './plugins/config.ts'
import { createLoggers, type Loggers } from './plugins/request/logging.ts'
import { obeySupervisor, reportListening, supervisedSignals } from './workers/supervised.ts'

/** Loads the configuration, and serves or, where there are to be several processes, keeps those that do. */
async function main(): Promise<void> {
  const config = loadConfig(process.env)
  // Before anything needs the pool: of libuv's four, four flushes would leave none to read with.
  process.env.UV_THREADPOOL_SIZE ??= String(threadsFor(Object.values(config.volumes)))
  if (config.workers === 1 || cluster.isWorker) return serve(config)
  const { supervise } = await import('./workers/supervisor.ts')
  process.off('uncaughtException', fail)
  supervise(config)
}

/** Listens, and closes gracefully on SIGTERM and SIGINT. */
async function serve(config: Config): Promise<void> {
  // Loaded only now, so that a wrong variable is reported at once.
  const { buildApp } = await import('./app.ts')
  loggers = createLoggers(config.logLevel, config.backendAi?.requestId)
  const { loggerInstance: logger } = loggers
  const app = await buildApp(config, loggers)
  const grace = config.shutdownTimeoutSeconds * 1000

  // Node waits for its threads, and the kernel does not let go of those that wait for a mount that hangs.
  const endThreads = () => {
    if (isAnyMountSilent()) process.kill(process.pid, 'SIGKILL')
  }

  // The process ends for sure, a little after the running transfers are cut.
  const close = async ({ signal, err }: { signal?: string; err?: Error }) => {
    if (err) logger.fatal({ err }, 'the service ends because of an error')
    else logger.info({ signal }, 'the service closes')
    const timer = setTimeout(() => app.abortRequests(), grace)
    await app.close()
    clearTimeout(timer)
    process.once('exit', endThreads)
  }

  process.off('uncaughtException', fail)
  // An error may come from anywhere, so the ID is given by hand.
  const options = { delay: grace + 5000, logger, skip: signalsOfOthers(config) }
  const { close: closeNow } = closeWithGrace(options, withRequestId(close, currentRequestId()))
  if (cluster.isWorker) obeySupervisor(closeNow, logger)

  await app.listenAll()
  // Node itself keeps it only where a process ends by itself; one that is killed would have the next start as slow.
  flushCompileCache()
  if (cluster.isWorker) reportListening()
}

/** Those that the supervisor answers, and the one after which the audit log goes on in a new file. */
function signalsOfOthers({ auditLogFile }: Config): (typeof supervisedSignals)[number][] {
  if (cluster.isWorker) return [...supervisedSignals]
  return auditLogFile === undefined ? [] : ['SIGHUP']
}

/** A sentence for people on stderr, and the same in the log. */
function failStart(error: unknown): never {
  const sentence = error instanceof ConfigError ? error.message : `the service cannot start: ${reasonOf(error)}`
  const { loggerInstance: logger } = loggers ?? createLoggers('fatal')
  const fields =
    error instanceof ConfigError ? { file: error.file, reason: error.cause && reasonOf(error.cause) } : { err: error }
  logger.fatal(fields, sentence)
  process.stderr.write(`${sentence}\n`)
  process.exit(1)
}

let loggers: Loggers | undefined
const startId = newRequestId()
const fail = withRequestId(failStart, startId)
process.on('uncaughtException', fail)
withRequestId(main, startId)().catch(fail)
