/** To the thread that hashes. */
export interface Order {
  /** Of the file. */
  id: number
  /** The next bytes; the memory goes with the order and comes back with the answer. */
  block?: { memory: ArrayBuffer; bytes: number }
  /** What to do at last. */
  end?: 'digest' | 'forget'
}

/** Follows each order. */
export interface Answer {
  id: number
  memory: ArrayBuffer | undefined
  digest: Uint8Array | undefined
}
