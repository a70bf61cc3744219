import type { Transform } from 'node:stream'

/** Yields what `transform` makes of the chunks. It is done with a chunk before it asks for the next one. */
export async function* compress(chunks: AsyncIterable<Buffer>, transform: Transform): AsyncGenerator<Buffer> {
  const feeding = feed(chunks, transform)
  feeding.catch((error) => transform.destroy(error))
  try {
    for await (const chunk of transform) yield chunk
  } finally {
    transform.destroy()
    await feeding.catch(() => {})
  }
}

async function feed(chunks: AsyncIterable<Buffer>, transform: Transform): Promise<void> {
  for await (const chunk of chunks) await write(transform, chunk)
  transform.end()
}

/** Rejects on `close` too: a transform that is destroyed while nobody reads from it never calls back. */
function write(transform: Transform, chunk: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = () => reject(new Error('nobody reads the compressed bytes any more'))
    transform.once('close', closed)
    transform.write(chunk, (error) => {
      transform.off('close', closed)
      if (error) reject(error)
      else resolve()
    })
  })
}
