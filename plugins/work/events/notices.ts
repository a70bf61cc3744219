import { Notice } from '../../../lib/notice.ts'

export type DeliveryEnd = 'taken' | 'failed'

/** Something has happened in these vfolders, and others can read of it. */
export const placed = new Notice<[folders: string[]]>()

/** A target was told some events, and has taken them or not. */
export const deliveryEnded = new Notice<[target: string, end: DeliveryEnd, events: number, seconds: number]>()
