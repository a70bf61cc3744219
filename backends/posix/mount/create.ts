import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import type { Backend } from '../../backend.ts'
import { Unavailable } from '../../errors.ts'
import { Turns } from '../../turns.ts'
import { Layout } from '../layout.ts'
import { guarded } from './guarded.ts'
import { Mount } from './index.ts'

interface VolumeOnMount {
  root: string
  /** Where the filesystem is mounted: the root, or a directory above it; absent: its type tells it. */
  point: string | undefined
  types: readonly string[] | undefined
  ownPlaces: boolean
  byScope: boolean
  isNfs: boolean
  isKnown: boolean | undefined
  /** How long a call may move nothing; 0: without limit. */
  timeoutSeconds: number | undefined
  log: FastifyBaseLogger
  createBackend(layout: Layout): Promise<Backend>
  /** Tries whether the volume can be used with its options. */
  tryAll(layout: Layout): Promise<void>
}

const usualTimeoutSeconds = 120
/** A mount is found to hang before its calls count as late by themselves. */
const patiencePart = 0.75
/** How long a start waits for a mount: the service begins without one that hangs. */
const startMilliseconds = 3000

/**
 * The backend of a volume on a guarded mount. Nothing is made before that is there.
 * @throws when the volume is there and cannot be used with its options
 */
export async function createOnMount(volume: VolumeOnMount): Promise<Backend> {
  const { root, point, types, ownPlaces, byScope, isNfs, isKnown = false, timeoutSeconds } = volume
  const { log, createBackend, tryAll } = volume
  const turns = new Turns()
  const layoutAt = (path: string) => Layout.at(path, { ownPlaces, byScope, isNfs, turns, hostRoot: join(root) })
  let isTried = false
  const mount = new Mount({
    root: join(root),
    point: point && join(point),
    mayMake: !isKnown,
    types,
    patienceMilliseconds: (timeoutSeconds || usualTimeoutSeconds) * 1000 * patiencePart,
    log,
    async create(path) {
      const layout = layoutAt(path)
      if (!isTried) {
        await layout.complete()
        if (!isKnown) await layout.makePlaces()
        await tryAll(layout)
      }
      isTried = true
      return createBackend(layout)
    },
  })
  const ready = mount.ready()?.catch((error) => {
    if (!(error instanceof Unavailable)) throw error
  })
  await Promise.race([ready, sleep(startMilliseconds, undefined, { ref: false })])
  const shape = await createBackend(layoutAt(root))
  return guarded({ ...shape, close: async () => mount.close() }, mount)
}
