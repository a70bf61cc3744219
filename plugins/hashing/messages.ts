/** To the thread that hashes. */
export interface Order {
  /** Of the file. */
  id: number
  /** The next bytes; the memory is the thread's until it answers. */
  block?: { memory: SharedArrayBuffer; bytes: number }
  /** What to do at last. */
  end?: 'digest' | 'forget'
}

/** Follows each order. */
export interface Answer {
  id: number
  digest: Uint8Array | undefined
}
