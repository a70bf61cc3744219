/** To the thread that hashes, about one file. The memory goes with the order. */
export type Order = { id: number } & ({ block: { memory: ArrayBuffer; bytes: number } } | { end: 'digest' | 'forget' })

/** Follows each order but `forget`. The memory comes back. */
export type Answer = { id: number } & ({ memory: ArrayBuffer } | { digest: Uint8Array })
