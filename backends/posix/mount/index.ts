import { realpath } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import type { FastifyBaseLogger } from 'fastify'
import type { Backend } from '../../backend.ts'
import { VolumeUnavailable } from '../../errors.ts'
import { type MountEntry, mountAt, readMounts } from '../mounts.ts'
import { MountCalls } from './calls.ts'
import { MountedRoot, type RootOptions } from './root.ts'

export interface MountOptions extends Pick<RootOptions, 'root' | 'mayMake' | 'patienceMilliseconds' | 'create'> {
  /** Where it is mounted: the root, or a directory above it; absent: anywhere, since the type tells it. */
  point: string | undefined
  /** Of the filesystem; absent: any. */
  types: readonly string[] | undefined
  log: FastifyBaseLogger
}

/** For so long what is mounted counts as known. */
const knownMilliseconds = 1000
/** So many mounts that hang may have been replaced by others: each keeps its share of the threads. */
const mostHung = 1

/** What is mounted in the place of a volume, from one mount to the next. */
export class Mount {
  readonly #options: MountOptions
  /** Where it is mounted, as the kernel calls that. */
  #point: string | undefined
  #root: MountedRoot | undefined
  #checkedAt = Number.NEGATIVE_INFINITY
  #checking: Promise<void> | undefined
  #hung: MountedRoot[] = []

  constructor(options: MountOptions) {
    this.#options = options
  }

  /** The root that calls may use now. */
  get root(): { mounted: MountedRoot; backend: Backend } | undefined {
    const mounted = this.#root
    return mounted?.backend && !mounted.isClosed ? { mounted, backend: mounted.backend } : undefined
  }

  /** Makes sure that calls may use the root; undefined when it is sure already. @throws {VolumeUnavailable} why not */
  ready(): Promise<void> | undefined {
    if (this.root !== undefined && performance.now() - this.#checkedAt < knownMilliseconds) return undefined
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined
    })
    return this.#checking
  }

  /** Opens the root anew, for calls from now on. */
  async renew(): Promise<void> {
    this.#retire()
    await this.ready()
  }

  close(): void {
    this.#retire()
  }

  async #check(): Promise<void> {
    const there = mountAt(await readMounts(), await this.#findRoot())
    const last = this.#root
    if (there === undefined || there.id !== last?.id || last.isClosed) this.#retire()
    // Nobody looks into a directory that it is not mounted on. To look has an automounter mount it.
    if (there?.type !== 'autofs') this.#verify(there)
    // What ended with the last use keeps its threads for the next one.
    this.#root ??= this.#open(there?.id ?? '', last?.isClosed ? last.calls : new MountCalls())
    const root = this.#root
    try {
      await root.usable()
    } catch (error) {
      if (!root.hangs && this.#root === root) this.#retire()
      throw error
    }
    this.#checkedAt = performance.now()
  }

  #open(id: string, calls: MountCalls): MountedRoot {
    const { log, ...options } = this.#options
    this.#hung = this.#hung.filter((mounted) => mounted.hangs)
    if (this.#hung.length > mostHung) {
      throw new VolumeUnavailable('calls hang on earlier mounts of the volume; the service has to be restarted')
    }
    return new MountedRoot(id, calls, {
      ...options,
      check: (mount) => this.#verify(mount),
      onHang: () => log.warn('the mount of the volume does not answer'),
      onBack: () => log.info('the mount of the volume answers again'),
    })
  }

  #retire(): void {
    this.#root?.retire()
    if (this.#root?.hangs) this.#hung.push(this.#root)
    this.#root = undefined
  }

  #verify(mount: MountEntry | undefined): void {
    const { types } = this.#options
    if (mount === undefined || (this.#point !== undefined && mount.point !== this.#point)) {
      throw new VolumeUnavailable('nothing is mounted where the volume belongs')
    }
    if (types !== undefined && !types.includes(mount.type)) {
      const expected = types.join(' or ')
      throw new VolumeUnavailable(`the volume is on ${mount.type} and not on ${expected}; it may not be mounted`)
    }
  }

  /** As the kernel calls it. The mount itself is not asked, since it may hang. */
  async #findRoot(): Promise<string> {
    const { root, point } = this.#options
    if (point === undefined) return root
    this.#point ??= await realpath(dirname(point)).then(
      (parent) => join(parent, basename(point)),
      () => undefined,
    )
    return join(this.#point ?? point, relative(point, root))
  }
}
