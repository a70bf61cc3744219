/** Content that was read to its end, or that goes on. */
export type Gathered = { kind: 'whole'; content: Buffer } | { kind: 'begun'; chunks: AsyncGenerator<Buffer> }

/**
 * Reads content to its end, unless it has more than so many bytes: then all its chunks follow, those that were read
 * first. A caller that does not take them must still `return` the iterator that it gave.
 */
export async function gather(chunks: AsyncIterator<Buffer>, most: number): Promise<Gathered> {
  const read: Buffer[] = []
  for (let bytes = 0; ; ) {
    const { done, value } = await chunks.next()
    if (done) return { kind: 'whole', content: Buffer.concat(read) }
    bytes += value.length
    if (bytes > most) return { kind: 'begun', chunks: goOn(read, value, chunks) }
    // The memory of a chunk is used again for the next one.
    read.push(Buffer.from(value))
  }
}

async function* goOn(read: Buffer[], chunk: Buffer, chunks: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  yield* read
  yield chunk
  for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value
}
