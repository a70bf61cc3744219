import { Notice } from '../../../lib/notice.ts'

/** Why a request was turned away before it was looked at: what the process has too little of, or whose rate is reached. */
export type Refusal = 'event_loop' | 'heap' | 'memory' | 'url' | 'address'

export const refusals: readonly Refusal[] = ['event_loop', 'heap', 'memory', 'url', 'address']

/** A request was turned away. */
export const requestRefused = new Notice<[Refusal]>()
