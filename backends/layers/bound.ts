import { TooManyCalls } from '../errors.ts'
import { Pool } from '../pool.ts'
import type { Operation } from './call.ts'
import type { Layer } from './layer.ts'

/**
 * The calls that wait for nothing but the storage, and end by themselves. Calls that take bytes are not bounded, since
 * they wait for their source: a file on the same volume, or a slow client. Nor are calls that may wait for such a call,
 * as a change of a file may wait for its writer; nor is `health`, since a busy storage is well.
 */
const bounded = new Set<Operation>([
  'createFolder',
  'stat',
  'list',
  'listMany',
  'listFolders',
  'read',
  'readMany',
  'beginUpload',
  'readUpload',
  'mkdir',
  'symlink',
  'usage',
  'quota',
  'capacity',
])

/** So many calls may be under way at once, and so many wait. */
export class Turns {
  readonly #pool: Pool<true>
  readonly #maxWaiting: number

  constructor(maxCalls: number, maxWaiting: number) {
    this.#pool = new Pool(() => true, maxCalls)
    this.#maxWaiting = maxWaiting
  }

  get running(): number {
    return this.#pool.taken
  }

  get waiting(): number {
    return this.#pool.waiting
  }

  get isFull(): boolean {
    return this.waiting >= this.#maxWaiting
  }

  take(): boolean {
    return this.#pool.take() ?? false
  }

  wait(signal: AbortSignal): Promise<true> {
    return this.#pool.acquire(signal)
  }

  end(): void {
    this.#pool.release(true)
  }
}

/**
 * Lets so many calls be under way at once; the others wait, in order, or until their signal aborts, and where too many wait
 * one is refused. A list and an opened file count only while they are asked for an entry or a chunk. So a call that has a
 * turn never waits for a call that needs one, and nothing can hold up all turns for ever: a clone that reads and writes on
 * one volume takes turns for its reads alone.
 * @param onRefusal is told of each call that is refused
 */
export function bound(turns: Turns, onRefusal: () => void = () => {}): Layer {
  return {
    // An `end` only frees something.
    covers: (operation, step) => step !== 'end' && bounded.has(operation),
    enter(call, step) {
      if (turns.take()) return undefined
      // What has begun is not broken off.
      if (step === 'answer' && turns.isFull) {
        onRefusal()
        throw new TooManyCalls(`${turns.waiting} calls of the volume wait for their turn, as many as may`)
      }
      return turns.wait(call.signal)
    },
    leave: () => turns.end(),
  }
}
