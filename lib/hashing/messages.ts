/** A message to the hashing thread about one file: a block, whose memory is transferred, or the end. */
export type Order = { id: number } & ({ memory: ArrayBuffer; bytes: number } | { end: true })

/** The thread's answer to each order, which transfers the memory back. */
export type Answer = { id: number } & ({ memory: ArrayBuffer } | { digest: Uint8Array })
