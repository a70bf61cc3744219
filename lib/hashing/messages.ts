/** What the thread that hashes is told about one file: a block, whose memory is transferred, or that all have come. */
export type Order = { id: number } & ({ memory: ArrayBuffer; bytes: number } | { end: true })

/** What the thread answers to each order. Memory is transferred back. */
export type Answer = { id: number } & ({ memory: ArrayBuffer } | { digest: Uint8Array })
