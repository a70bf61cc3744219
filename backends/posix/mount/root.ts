import { randomUUID } from 'node:crypto'
import fs, { promises } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { Backend } from '../../backend.ts'
import type { BackendCall } from '../../layers/call.ts'
import { pathOf } from '../descriptors.ts'
import { errnoOf, translateErrorsOf } from '../errno.ts'
import { close, mkdir } from '../files.ts'
import { type MountEntry, mountOf, readMounts } from '../mounts.ts'
import { hold, type MountCalls } from './calls.ts'
import { Watch } from './watch.ts'

const open = promisify<string, number, number>(fs.open)
const { O_DIRECTORY, O_RDONLY } = fs.constants

export interface RootOptions {
  root: string
  /** The directory is made where it is missing on the mount. */
  mayMake: boolean
  /** How long the mount may leave a look unanswered. */
  patienceMilliseconds: number
  /** @throws when that is not where the root belongs */
  check(mount: MountEntry | undefined): void
  /** Makes the backend of the volume on a root that is open. */
  create(path: string): Promise<Backend>
  onHang(): void
  onBack(): void
}

/** So many ticks without use. */
const ticksToClose = 2

/**
 * The root of a volume, held open on one mount. All paths lead through the descriptor, and so to that very filesystem,
 * also when the mount is taken away: what is under way ends where it began, and nothing gets into the directory that
 * the mount was over. It is closed when nothing uses it, so as not to keep the mount busy.
 */
export class MountedRoot {
  /** Of the mount that was there when it was opened. */
  readonly id: string
  /** Calls and open files that use it. */
  users = 0
  readonly #options: RootOptions
  readonly calls: MountCalls
  readonly #watch: Watch
  readonly #timer: NodeJS.Timeout
  readonly #opened: Promise<void>
  #fd: number | undefined
  #backend: Backend | undefined
  #isRetired = false
  #idleTicks = 0

  constructor(id: string, calls: MountCalls, options: RootOptions) {
    this.id = id
    this.calls = calls
    this.#options = options
    this.#watch = new Watch({
      patienceMilliseconds: options.patienceMilliseconds,
      look: () => this.#look(),
      onHang: (error) => {
        this.calls.refuse(error)
        options.onHang()
      },
      onBack: () => {
        this.calls.resume()
        options.onBack()
      },
    })
    this.#timer = setInterval(() => this.#tick(), this.#watch.interval).unref()
    this.#opened = translateErrorsOf('the root of the volume', () => this.#open())
  }

  /** Undefined while it is not open, or hangs. */
  get backend(): Backend | undefined {
    return this.hangs ? undefined : this.#backend
  }

  get hangs(): boolean {
    return this.#watch.hang !== undefined
  }

  get isClosed(): boolean {
    return this.#isRetired && this.#fd === undefined
  }

  /** Resolves when it is open. @throws why it is not, and when it hangs */
  usable(): Promise<void> {
    return this.#watch.limit(this.#opened)
  }

  limit<T>(call: BackendCall, answer: Promise<T>): Promise<T> {
    return this.#watch.limit(answer, call)
  }

  /** It serves no further call, and is closed as soon as those under way have ended. */
  retire(): void {
    this.#isRetired = true
  }

  async #open(): Promise<void> {
    const { root, mayMake, create } = this.#options
    const fd = await this.#openOnMount(root).catch(async (error) => {
      if (!mayMake || errnoOf(error) !== 'ENOENT') throw error
      const parent = await this.#openOnMount(dirname(root))
      await mkdir(join(pathOf(parent), basename(root)))
      close(parent)
      return this.#openOnMount(root)
    })
    this.#fd = fd
    this.#backend = await create(pathOf(fd))
  }

  /** Only what is open is surely where it is found to be. */
  async #openOnMount(path: string): Promise<number> {
    const fd = await this.calls.run(() => open(path, O_RDONLY | O_DIRECTORY))
    hold(fd, this.calls)
    try {
      const id = await mountOf(fd)
      this.#options.check((await readMounts()).find((mount) => mount.id === id))
      return fd
    } catch (error) {
      close(fd)
      throw error
    }
  }

  /** Asks for a name that nobody has asked for: the kernel knows most of the others. */
  async #look(): Promise<void> {
    if (this.#backend === undefined || this.#fd === undefined) return this.#opened
    await promises.statfs(pathOf(this.#fd))
    await promises.lstat(join(pathOf(this.#fd), randomUUID()))
  }

  #tick(): void {
    this.#watch.tick()
    const isUsed = this.users > 0 || !this.#watch.isIdle || !this.calls.isIdle
    this.#idleTicks = isUsed ? 0 : this.#idleTicks + 1
    if (this.#idleTicks >= ticksToClose) this.#close()
  }

  #close(): void {
    this.#isRetired = true
    clearInterval(this.#timer)
    this.#watch.end()
    if (this.#fd !== undefined) close(this.#fd)
    this.#fd = undefined
  }
}
