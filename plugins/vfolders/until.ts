/**
 * What comes from a source, until somebody else ends it; then it throws the signal's reason, also while it waits for a
 * client that sends nothing.
 */
export async function* until<T>(source: AsyncIterable<T>, ended: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]()
  let fail: ((reason: unknown) => void) | undefined
  const onAbort = () => fail?.(ended.reason)
  ended.addEventListener('abort', onAbort)
  try {
    for (;;) {
      ended.throwIfAborted()
      const { done, value } = await new Promise<IteratorResult<T>>((resolve, reject) => {
        fail = reject
        iterator.next().then(resolve, reject)
      })
      if (done) return
      yield value
    }
  } finally {
    ended.removeEventListener('abort', onAbort)
    const returned = iterator.return?.()
    // It may still wait for what does not come any more.
    if (ended.aborted) returned?.catch(() => {})
    else await returned
  }
}
