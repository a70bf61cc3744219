import type { Call } from '../backend.ts'
import type { FolderNumbers } from '../definition.ts'
import { readdir } from '../posix/compose.ts'
import type { XfsQuota } from './xfs-quota.ts'

/** xfs_quota(8) reads them as an `int`. */
export const largestProject = 2 ** 31 - 1

/** The projects of vfolders: which one each has, and that what is in it belongs to it. */
export class Projects {
  readonly #tool: XfsQuota
  readonly #numbers: FolderNumbers
  readonly #first: number
  /** Any directory of the filesystem. */
  readonly #root: string
  /** Vfolders that are being given to their projects again. */
  readonly #restored = new Map<string, Promise<void>>()
  /** Aborts when the service closes. */
  readonly #closing: AbortSignal

  constructor(
    tool: XfsQuota,
    { numbers, first, root, signal }: { numbers: FolderNumbers; first: number; root: string; signal: AbortSignal },
  ) {
    this.#tool = tool
    this.#numbers = numbers
    this.#first = first
    this.#root = root
    this.#closing = signal
  }

  async find(folder: string): Promise<number | undefined> {
    const number = await this.#numbers.find(folder)
    return number === undefined ? undefined : this.#projectOf(number)
  }

  async of(folder: string, call: Call): Promise<number> {
    return (await this.find(folder)) ?? (await this.#allot(folder, call))
  }

  /** A number may be in use by what another database made here, such as a later state of the same one. */
  async #allot(folder: string, call: Call): Promise<number> {
    let number = await this.#numbers.allot(folder)
    for (let skip = 1; !(await this.#isFree(this.#projectOf(number), call)); skip *= 2) {
      number = await this.#numbers.allot(folder, { taken: number, skip })
    }
    return this.#projectOf(number)
  }

  #projectOf(number: number): number {
    const project = this.#first + number - 1
    if (project > largestProject) throw new Error(`there is no project ${project}: firstProject is too high`)
    return project
  }

  async #isFree(project: number, call: Call): Promise<boolean> {
    const quota = await this.#tool.quota(project, this.#root, call)
    return quota === undefined || (quota.inodes === 0 && quota.maxBytes === 0 && quota.maxInodes === 0)
  }

  /**
   * Gives a vfolder to its project that has entries of none, or of another: a backup has no projects. The directory
   * itself comes last, so that what was broken off is begun again. It goes on when nobody waits for it any more.
   */
  async restore(project: number, home: string, { signal }: Call): Promise<void> {
    let restored = this.#restored.get(home)
    if (restored === undefined) {
      restored = this.#restore(project, home).finally(() => this.#restored.delete(home))
      restored.catch(() => {}) // Told to those who wait.
      this.#restored.set(home, restored)
    }
    const { promise: aborted, reject } = Promise.withResolvers<never>()
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    try {
      signal.throwIfAborted()
      await Promise.race([restored, aborted])
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  async #restore(project: number, home: string): Promise<void> {
    const call = { signal: this.#closing }
    await this.#tool.giveEntries(project, await readdir(home), home, call)
    await this.#tool.give(project, home, call)
  }

  /** Nobody has the vfolder any more. */
  async forget(folder: string, call: Call): Promise<void> {
    const project = await this.find(folder)
    if (project === undefined) return
    await this.#tool.limit(project, { bytes: null, files: null }, this.#root, call)
    await this.#numbers.forget(folder)
  }
}
