/** What the thread that hashes a file is told: a block, whose memory is transferred with it, or that all have come. */
export type Order = { memory: ArrayBuffer; bytes: number } | 'end'

/** What the thread answers to each order. Memory is transferred back. */
export type Answer = { memory: ArrayBuffer } | { digest: Uint8Array }
