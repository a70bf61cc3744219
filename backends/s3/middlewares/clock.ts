import type { S3Client } from '@aws-sdk/client-s3'

/** Less is not told from the whole seconds of the header, and the way of the answer. */
const leastMilliseconds = 2000

/** The time by the storage's clock, as its answers tell it: the ages of its objects are for that clock to say. */
export class StorageClock {
  #ahead = 0

  constructor(client: S3Client) {
    client.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args)
        this.#look(result.response)
        return result
      },
      { step: 'deserialize', name: 'readClock', priority: 'high' },
    )
  }

  /** Milliseconds, as of `Date.now`. */
  now(): number {
    return Date.now() + this.#ahead
  }

  #look(response: unknown): void {
    if (typeof response !== 'object' || response === null || !('headers' in response)) return
    const { headers } = response
    if (typeof headers !== 'object' || headers === null || !('date' in headers)) return
    const ahead = Date.parse(String(headers.date)) - Date.now()
    if (!Number.isNaN(ahead)) this.#ahead = Math.abs(ahead) < leastMilliseconds ? 0 : ahead
  }
}
