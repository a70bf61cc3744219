/** Content that was read to its end, or that goes on. */
export type Gathered = { kind: 'whole'; content: Buffer } | { kind: 'begun'; chunks: AsyncGenerator<Buffer> }

export interface GatherOptions {
  /** In bytes. */
  most: number
  patienceMilliseconds: number
}

const late = Symbol('late')

/**
 * Reads content to its end, unless it has more than so many bytes, or takes longer than that to come: then all its
 * chunks follow, those that were read first. A caller that does not take them must still `return` the iterator that it
 * gave.
 */
export async function gather(
  chunks: AsyncIterator<Buffer>,
  { most, patienceMilliseconds }: GatherOptions,
): Promise<Gathered> {
  const { promise: impatience, resolve: tire } = Promise.withResolvers<typeof late>()
  const timer = setTimeout(tire, patienceMilliseconds, late)
  const read: Buffer[] = []
  try {
    for (let bytes = 0; ; ) {
      const asked = chunks.next()
      const next = await Promise.race([asked, impatience])
      if (next === late) return { kind: 'begun', chunks: goOn(read, asked, chunks) }
      if (next.done) return { kind: 'whole', content: Buffer.concat(read) }
      bytes += next.value.length
      if (bytes > most) return { kind: 'begun', chunks: goOn(read, asked, chunks) }
      // The memory of a chunk is used again for the next one.
      read.push(Buffer.from(next.value))
    }
  } finally {
    clearTimeout(timer)
  }
}

async function* goOn(
  read: Buffer[],
  asked: Promise<IteratorResult<Buffer>>,
  chunks: AsyncIterator<Buffer>,
): AsyncGenerator<Buffer> {
  yield* read
  for (let next = await asked; !next.done; next = await chunks.next()) yield next.value
}
