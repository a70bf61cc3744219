import { isNothing } from '../../backends/amount.ts'
import type { Amount } from '../../backends/backend.ts'
import type { Facts } from '../work/audit/facts.ts'

/** How something has ended, and what it has changed. */
export interface Ended extends Pick<Facts, 'outcome' | 'code'> {
  done: Amount
}

/** What there is to tell of what is done in one step; what has changed nothing is told when the request ends. */
export function inOneStep(facts: Facts): (ended: Ended) => Facts[] {
  return ({ done, ...ended }) =>
    ended.outcome === undefined || !isNothing(done) ? [{ ...facts, ...ended, bytes: Math.abs(done.bytes) }] : []
}

/** How far a removal has come. */
export interface Removal {
  tried: string[]
  deleted: string[]
  /** The directory in which it was broken off, and what of it is gone. */
  half?: { path: string; bytes: number }
}

/** What there is to tell of a removal, whose end does not change what is gone by then. */
export function ofRemoval({ tried, deleted, half }: Removal, { done, ...ended }: Ended): Facts[] {
  const action = 'entry.delete'
  const bytes = Math.abs(done.bytes) - (half?.bytes ?? 0)
  const gone = deleted.length === 1 ? { path: deleted[0] } : { count: deleted.length }
  const named = tried.length === 1 ? { ...gone, path: tried[0] } : gone
  return [
    ...(ended.outcome === undefined || deleted.length > 0 ? [{ action, bytes, ...named } as const] : []),
    ...(half === undefined ? [] : [{ action, ...half, ...ended } as const]),
  ]
}
