/** What the thread that hashes is told about one file. Memory is transferred with the order. */
export type Order = { id: number } & ({ block: { memory: ArrayBuffer; bytes: number } } | { end: 'digest' | 'forget' })

/** What the thread answers to each order but `forget`. Memory is transferred back. */
export type Answer = { id: number } & ({ memory: ArrayBuffer } | { digest: Uint8Array })
