/**
 * Waits for a promise, but no longer than `seconds`. What it stands for goes on.
 * @throws when it takes longer, and as the promise does
 */
export async function within<T>(seconds: number, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => reject(new Error(`it did not come to an end within ${seconds} seconds`)),
    seconds * 1000,
  )
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
