import type { Event } from './event.ts'

/** Somebody who is told of events. */
export interface Target {
  /** Under which it is remembered how far it has been told; shown to people, so without secrets. */
  readonly name: string
  /** What it is given in order: all of one vfolder, or all there is. */
  readonly order: 'vfolder' | 'all'
  /** How many calls may be under way, each of another vfolder. */
  readonly concurrency: number
  /** How many events it takes in one call at most. */
  readonly batch: number
  /** It is never given up, however long it takes nothing. */
  readonly insists?: boolean
  /**
   * Gives it events, in their order. It has taken all of them when the call resolves; after a rejection it is given all of
   * them again, and also after a crash: so it may see an event twice, by the same ID.
   */
  deliver(events: Event[], signal: AbortSignal): Promise<void>
  close?(): void
}
