import { inContext } from '../../../lib/context.ts'
import { type EventRow, toEvent } from './event.ts'
import { type DeliveryEnd, deliveryEnded } from './notices.ts'
import type { Target } from './target.ts'

/** After so long a round ends, so that what it has done is written down and other vfolders get their turn. */
const roundMilliseconds = 2000

/** Events that are told in their order. */
export interface Lane {
  name: string
  events: EventRow[]
  /** Whether they are letters, which were not taken in their turn. */
  isLate: boolean
  /** How often each of these was told. */
  attempts?: Map<number, number>
}

/** What became of a lane. */
export interface LaneEnd {
  lane: Lane
  /** How many of its events were taken; the next one was not, if there is an error. */
  taken: number
  error: string | undefined
}

interface RoundOptions {
  signal: AbortSignal
  /** How often in a row the target has taken nothing; then one lane after the other is tried, beginning with another one each time. */
  failures: number
}

/**
 * Tells a target what is in some lanes. When it takes nothing at all, the target is the one that fails, and is left alone;
 * when it takes something and not all, it is the event.
 */
export async function runLanes(target: Target, lanes: Lane[], { signal, failures }: RoundOptions): Promise<LaneEnd[]> {
  const until = performance.now() + roundMilliseconds
  const first = failures % Math.max(1, lanes.length)
  const waiting = [...lanes.slice(first), ...lanes.slice(0, first)]
  const ends: LaneEnd[] = []
  let hasTaken = false
  let hasFailed = failures > 0

  async function runLane(lane: Lane): Promise<void> {
    const end: LaneEnd = { lane, taken: 0, error: undefined }
    ends.push(end)
    while (end.taken < lane.events.length && performance.now() < until && !signal.aborted) {
      const events = lane.events.slice(end.taken, end.taken + target.batch)
      end.error = await deliver(target, events, signal)
      if (end.error !== undefined) return
      hasTaken = true
      end.taken += events.length
    }
  }

  async function work(): Promise<void> {
    for (;;) {
      // A target that may be away is asked once, and not by all at once.
      const isEnough = ends.some(({ error }) => error !== undefined) && !hasTaken
      if (isEnough || signal.aborted || performance.now() >= until) return
      const lane = waiting.shift()
      if (lane === undefined) return
      await runLane(lane)
      hasFailed ||= ends.some(({ error }) => error !== undefined)
      if (hasFailed && !hasTaken) return
    }
  }

  if (failures > 0) {
    await work()
    if (!hasTaken) return ends
  }
  await Promise.all(Array.from({ length: Math.min(target.concurrency, waiting.length) }, work))
  return ends
}

/** @returns why they were not taken */
async function deliver(target: Target, rows: EventRow[], signal: AbortSignal): Promise<string | undefined> {
  const begun = performance.now()
  const tell = (end: DeliveryEnd) =>
    deliveryEnded.give(target.name, end, rows.length, (performance.now() - begun) / 1000)
  try {
    const call = () => target.deliver(rows.map(toEvent), signal)
    await inContext({ request_id: rows[0]?.request_id ?? '' }, call)
    tell('taken')
    return undefined
  } catch (error) {
    if (!signal.aborted) tell('failed')
    return error instanceof Error ? error.message : String(error)
  }
}
