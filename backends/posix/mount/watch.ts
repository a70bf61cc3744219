import { VolumeUnavailable } from '../../errors.ts'
import type { BackendCall } from '../../layers/call.ts'

interface WatchOptions {
  /** How long a look may stay unanswered. */
  patienceMilliseconds: number
  /** Asks the filesystem something that only its server or its disk can answer. */
  look(): Promise<unknown>
  onHang(error: VolumeUnavailable): void
  onBack(): void
}

const watches = new Set<Watch>()

/** Whether a mount leaves a look unanswered: threads may never come back from it. */
export function isAnyMountSilent(): boolean {
  return [...watches].some((watch) => watch.isSilent)
}

/** How often within its patience, at least, a mount is looked at while something waits for it. */
const looks = 12
const mostMilliseconds = 1000

/**
 * Tells a mount that hangs from one that is slow: while calls wait for it, it is looked at, and it hangs once a look
 * stays unanswered. All that wait are then given up, and others refused, until that look is answered after all. Looks
 * are counted by ticks, so that a process that was suspended takes no mount for hung.
 */
export class Watch {
  readonly #options: WatchOptions
  readonly #waiting = new Set<(error: Error) => void>()
  readonly #mostTicks: number
  readonly interval: number
  #ticks = 0
  #isLooking = false
  #hang: VolumeUnavailable | undefined

  constructor(options: WatchOptions) {
    this.#options = options
    this.interval = Math.min(options.patienceMilliseconds / looks, mostMilliseconds)
    this.#mostTicks = Math.ceil(options.patienceMilliseconds / this.interval)
    watches.add(this)
  }

  /** Why calls are refused. */
  get hang(): VolumeUnavailable | undefined {
    return this.#hang
  }

  get isSilent(): boolean {
    return this.#isLooking && this.#ticks > 0
  }

  get isIdle(): boolean {
    return this.#waiting.size === 0 && !this.#isLooking
  }

  /** Waits for what a call is answered, but not for a mount that hangs. */
  limit<T>(answer: Promise<T>, call?: BackendCall): Promise<T> {
    return new Promise((resolve, reject) => {
      const giveUp = (error: Error) => {
        call?.abandon(error)
        reject(error)
      }
      if (this.#hang !== undefined) giveUp(this.#hang)
      else this.#waiting.add(giveUp)
      answer.then(resolve, reject).finally(() => this.#waiting.delete(giveUp))
    })
  }

  tick(): void {
    if (!this.#isLooking) {
      if (this.#waiting.size > 0) this.#look()
    } else if (++this.#ticks >= this.#mostTicks && this.#hang === undefined) {
      this.#giveUp()
    }
  }

  end(): void {
    watches.delete(this)
  }

  #look(): void {
    this.#isLooking = true
    this.#ticks = 0
    // An error is an answer too.
    const answered = () => {
      this.#isLooking = false
      if (this.#hang === undefined) return
      this.#hang = undefined
      this.#options.onBack()
    }
    this.#options.look().then(answered, answered)
  }

  #giveUp(): void {
    const error = new VolumeUnavailable('the mount of the volume does not answer')
    this.#hang = error
    this.#options.onHang(error)
    for (const giveUp of this.#waiting) giveUp(error)
    this.#waiting.clear()
  }
}
