/** Waits for the first entry, so that a directory that cannot be listed is still answered with a problem. */
export async function awaitFirst<T>(listing: AsyncIterable<T>): Promise<AsyncIterable<T>> {
  const iterator = listing[Symbol.asyncIterator]()
  let next: IteratorResult<T> | undefined = await iterator.next()
  return {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        const result = next ?? (await iterator.next())
        next = undefined
        return result
      },
      return: async () => (await iterator.return?.()) ?? { done: true, value: undefined },
    }),
  }
}
