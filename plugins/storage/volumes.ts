import { setTimeout as sleep } from 'node:timers/promises'
import { Ajv } from 'ajv'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Backend } from '../../backends/backend.ts'
import { type Capability, type Capable, capabilitiesOf, hasCapability } from '../../backends/capabilities.ts'
import type { Command } from '../../backends/definition.ts'
import { VolumeUnavailable } from '../../backends/errors.ts'
import { bound, Turns } from '../../backends/layers/bound.ts'
import { callLog } from '../../backends/layers/call-log.ts'
import { circuit } from '../../backends/layers/circuit.ts'
import { follow } from '../../backends/layers/follow.ts'
import { guard } from '../../backends/layers/guard.ts'
import { around } from '../../backends/layers/layer.ts'
import { measure } from '../../backends/layers/measure.ts'
import { timeLimit } from '../../backends/layers/time-limit.ts'
import { currentRequestId, currentTraceparent, newRequestId, withRequestId } from '../../lib/context.ts'
import { Problem } from '../../lib/problems.ts'
import { within } from '../../lib/within.ts'
import { type Config, ConfigError, explainRule, type HandOver, inFile, reasonOf, type VolumeConfig } from '../config.ts'
import { checkBackend } from './backend-shape.ts'
import { startSeconds } from './backends.ts'
import { byId, type FindScope } from './by-id.ts'
import { folderNumbers } from './folder-numbers.ts'
import { VolumeIdentity } from './identity.ts'
import { isRemembered } from './identity-rows.ts'
import { callBegun, callEnded, callRefused, circuitTurned, commandEnded } from './notices.ts'
import { requireSeparatePlaces } from './separate-places.ts'

declare module 'fastify' {
  interface FastifyInstance {
    volumes: Awaited<ReturnType<typeof createVolumes>>
  }
}

export interface Volume {
  name: string
  /** The type of its backend. */
  type: string
  backend: Backend
  /** The calls that are bounded. */
  turns: Turns
  /** Whether it is the storage that it was. */
  identity: VolumeIdentity
  /** The front server that sends its files to clients. */
  handOver: HandOver | undefined
  /** Signed download URLs are answered with a redirect to the storage itself. */
  redirect: boolean
}

export type Health = { healthy: true; warning?: string } | { healthy: false; reason: string }

/** A volume that has less left counts as full. Reading and deleting go on. */
const littleBytes = 1024 * 1024

/** A storage that takes longer to report its health counts as unhealthy. */
const healthTimeoutMilliseconds = 3000

/** How long a call may move nothing: longer than clients wait for a restarted NFS server, mostly 90 s. */
const usualTimeoutSeconds = 120
/** How long a storage may take to store the mark of a volume: a close waits for it. */
const renewalMilliseconds = 3000

/** For so long another storage in the place of a volume may go unseen where nobody asks for the health. */
const lookMilliseconds = 10_000

/** Calls under way on a volume: far more than disks or servers work on at once. */
const usualMaxCalls = 1000
/** Calls that wait for one of those: so many that whoever comes now had better come again. */
const usualMaxWaitingCalls = 10_000

/** Longer than a live client pauses. A backend that makes a client wait touches that client's staged bytes itself. */
export function idleSecondsOf({ idleTimeoutSeconds }: Config): number {
  return 2 * idleTimeoutSeconds
}

async function createVolumes(app: FastifyInstance, signal: AbortSignal) {
  const volumes = new Map<string, Volume>()
  let findScope: FindScope = async () => undefined
  const configured = Object.entries(app.config.volumes).map(([name, config]) => configure(app, name, config))
  await requireSeparatePlaces(app.config.volumesVariable, configured)
  for (const volume of configured) {
    const { name, place, definition, handOver, redirect } = volume
    const { type } = definition
    const { backend, identity, turns } = await createBackend(app, volume, (id) => findScope(id), signal)
    if (handOver !== undefined && backend.mount === undefined) {
      throw new ConfigError(`${place}/handOver must be absent: a backend ${type} has no files that others reach`)
    }
    if (redirect && backend.presign === undefined) {
      throw new ConfigError(`${place}/redirect must be false: ${type} cannot presign`)
    }
    volumes.set(name, { name, type, backend, turns, identity, handOver, redirect })
  }
  const [first] = volumes.values()
  if (first === undefined) throw new ConfigError(`${app.config.volumesVariable} must have at least one volume`)

  return {
    all: (): Volume[] => [...volumes.values()],

    /** The volume for callers that name none: the one called `default`, else the first. */
    default: volumes.get('default') ?? first,

    /** @throws {Problem} `volume_not_found` */
    get(name: string): Volume {
      const volume = volumes.get(name)
      if (volume === undefined) throw new Problem('volume_not_found', `There is no volume ${name}.`)
      return volume
    },

    /** Whoever knows the quota scopes of vfolders says here how to find them. */
    findScopesBy(find: FindScope): void {
      findScope = find
    },

    async health(volume: Volume): Promise<Health> {
      const timeout = AbortSignal.timeout(healthTimeoutMilliseconds)
      const late = new Promise<never>((_, reject) => {
        timeout.onabort = () => reject(new Error(`no answer within ${healthTimeoutMilliseconds / 1000} s`))
      })
      try {
        await Promise.race([checkHealth(volume, timeout), late])
        const warning = await Promise.race([warningOf(volume, timeout), late])
        return { healthy: true, ...(warning !== undefined && { warning }) }
      } catch (error) {
        return { healthy: false, reason: error instanceof Error ? error.message : String(error) }
      }
    },
  }
}

/** Rejects with why the volume cannot be used now: it is another one, or its storage is not well. */
async function checkHealth({ backend, identity }: Volume, signal: AbortSignal): Promise<void> {
  const failure = await identity.look().then(
    () => undefined,
    (error: unknown) => ({ error }),
  )
  if (failure?.error instanceof VolumeUnavailable) throw failure.error
  // What else keeps the storage from being looked at, it tells better itself.
  await backend.health({ signal })
  // As long as calls are let through to the storage, it is well.
  if (failure !== undefined && !identity.isAdmitted) throw failure.error
}

/** What does not keep the volume from being used, but should not go unseen. */
async function warningOf({ backend }: Volume, signal: AbortSignal): Promise<string | undefined> {
  const capacity = await backend.capacity?.({ signal }).catch(() => undefined)
  if (capacity === undefined || capacity.availableBytes >= littleBytes) return undefined
  return `the volume is full: it has ${capacity.availableBytes} bytes left`
}

/** The definition of a volume's backend, and its options as that wants them. @throws {ConfigError} */
function configure(app: FastifyInstance, name: string, config: VolumeConfig) {
  const { backend: type, handOver, redirect = false, timeoutSeconds, ...more } = config
  const { maxCalls = usualMaxCalls, maxWaitingCalls = usualMaxWaitingCalls, ...options } = more
  const place = `${app.config.volumesVariable}/${name}`
  const definition = app.backends.get(type)
  if (definition === undefined) {
    const known = app.backends.types().join(', ')
    throw new ConfigError(`${place}/backend must be one of ${known}, not ${type}`)
  }
  const ajv = new Ajv({ useDefaults: true, validateSchema: false, allowUnionTypes: true })
  const validate = ajv.compile(definition.options)
  if (!validate(options)) throw new ConfigError(explainRule(place, validate.errors?.[0]))
  return { name, place, definition, options, handOver, redirect, timeoutSeconds, maxCalls, maxWaitingCalls }
}

async function createBackend(
  app: FastifyInstance,
  { name, place, definition, options, timeoutSeconds, maxCalls, maxWaitingCalls }: ReturnType<typeof configure>,
  findScope: FindScope,
  signal: AbortSignal,
): Promise<Pick<Volume, 'backend' | 'identity' | 'turns'>> {
  const { type } = definition
  try {
    const log = app.log.child({ volume: name, backend: type })
    const idleSeconds = idleSecondsOf(app.config)
    const isKnown = await isRemembered(app.database, name)
    const { metrics, traces, audit } = app.config
    const seconds = timeoutSeconds ?? definition.timeoutSeconds ?? usualTimeoutSeconds
    const numbers = folderNumbers(app.database, name)
    const asked = { options, signal, log, idleSeconds, isKnown, timeoutSeconds: seconds }
    const telling = (metrics || traces) && { onCommand: (command: Command) => commandEnded.give(name, command) }
    const context = { ...asked, numbers, requestId: currentRequestId, traceparent: currentTraceparent, ...telling }
    const created = await within(startSeconds, Promise.resolve(definition.create(context)))
    checkBackend(type, created)
    const isLogged = app.config.logLevel === 'debug' || app.config.logLevel === 'trace'
    const turns = new Turns(maxCalls, maxWaitingCalls)
    // A call that waits for its turn is not late, and is refused if the storage is away when its turn comes. A late
    // call counts for the circuit.
    const backend = around(created, [
      ...(isLogged ? [callLog(log)] : []),
      ...(traces ? [follow((call) => callBegun.give(name, call))] : []),
      ...(metrics || audit ? [measure((...call) => callEnded.give(name, ...call))] : []),
      guard(() => identity),
      bound(turns, () => callRefused.give(name)),
      circuit(log, (isOpen) => circuitTurned.give(name, isOpen)),
      ...(seconds > 0 ? [timeLimit(seconds)] : []),
    ])
    const identity = new VolumeIdentity(app.database, name, backend)
    return { backend: byId(backend, findScope), identity, turns }
  } catch (error) {
    throw new ConfigError(`${place} cannot be used: ${reasonOf(error)}`, { cause: error })
  }
}

/**
 * Narrows a volume's backend to one that has the capability.
 * @throws {Problem} `capability_missing`
 */
export function requireCapability<C extends Capability>(volume: Volume, capability: C): Capable<C> {
  const { backend } = volume
  if (!hasCapability(backend, capability)) {
    const present = capabilitiesOf(backend).join(', ') || 'none'
    throw new Problem('capability_missing', `Volume ${volume.name} has no ${capability}; it has ${present}.`)
  }
  return backend
}

/** A volume that is away, or another one, does not keep the others from being served. */
async function lookAtAll(app: FastifyInstance, volumes: Volume[]): Promise<void> {
  const look = async ({ name, identity }: Volume) => {
    try {
      await identity.look()
    } catch (error) {
      app.log.warn({ volume: name, err: error }, 'the volume cannot be used')
    }
  }
  await Promise.all(volumes.map(look))
}

/**
 * Renews the marks of the volumes from time to time, and once more at the end, and looks in between whether they are
 * still there; each time under a request ID of its own.
 */
function keepRenewing(app: FastifyInstance, volumes: Volume[]) {
  const renew = async () => {
    for (const { name, identity } of volumes) {
      await identity.renew({ signal: AbortSignal.timeout(renewalMilliseconds) }).catch((error: unknown) => {
        app.log.warn({ volume: name, err: error }, 'the identity of the volume was not renewed')
      })
    }
  }
  let running = Promise.resolve()
  const tick = () => {
    running = running.then(withRequestId(renew, newRequestId()))
  }
  const timer = setInterval(tick, app.config.uploadCleanupIntervalSeconds * 1000).unref()
  const look = () =>
    lookAtAll(
      app,
      volumes.filter(({ identity }) => identity.isAdmitted),
    )
  const looking = setInterval(() => withRequestId(look, newRequestId())(), lookMilliseconds).unref()
  return {
    async end() {
      clearInterval(timer)
      clearInterval(looking)
      tick()
      // A storage that hangs is not waited for.
      await Promise.race([running, sleep(renewalMilliseconds, undefined, { ref: false })])
    },
  }
}

/** The configured volumes, each with a backend of its own. */
export default fp(
  async (app) => {
    const closing = new AbortController()
    const volumes = await inFile(app.config.volumesFile, () => createVolumes(app, closing.signal))
    await lookAtAll(app, volumes.all())
    const renewing = keepRenewing(app, volumes.all())
    app.addHook('onClose', async () => {
      await renewing.end()
      closing.abort()
      await Promise.all(volumes.all().map(({ backend }) => backend.close()))
    })
    app.decorate('volumes', volumes)
  },
  { name: 'volumes', dependencies: ['config', 'database', 'backends'] },
)
