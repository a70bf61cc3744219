import { type Capability, Operator, RetryLayer } from 'opendal'
import { type Publication, services } from './services.ts'

/** Parts that S3, and what is like it, allow in one multipart upload. */
const maxParts = 10_000

function retries() {
  const layer = new RetryLayer()
  layer.jitter = true
  return layer.build()
}

/** An operator of OpenDAL, with what is known of its service and who is changing what at the moment. */
export class Store {
  readonly operator: Operator
  readonly capability: Capability
  readonly publication: Publication
  readonly conditional: boolean
  readonly chunkBytes: number
  readonly maxFileBytes: number
  readonly #changing = new Map<string, Promise<unknown>>()

  constructor(name: string, options: Record<string, string>, chunkBytes: number) {
    const service = services[name]
    if (service === undefined) throw new Error(`the service ${name} does not replace a file in one step`)
    const operator = new Operator(name, options)
    this.operator = service.remote ? operator.layer(retries()) : operator
    this.capability = this.operator.capability()
    this.publication = service.publication
    this.conditional = service.conditional && this.capability.writeWithIfNotExists
    this.chunkBytes = chunkBytes
    this.maxFileBytes = { rename: Number.MAX_SAFE_INTEGER, close: maxParts * chunkBytes, put: 8 * chunkBytes }[
      service.publication
    ]
  }

  /** Lets the changes of one key happen one after another, so that what was looked at stays so until it is changed. */
  async alone<T>(key: string, change: () => Promise<T>): Promise<T> {
    const before = this.#changing.get(key)
    const running = (before ?? Promise.resolve()).then(change, change)
    this.#changing.set(key, running)
    try {
      return await running
    } finally {
      if (this.#changing.get(key) === running) this.#changing.delete(key)
    }
  }
}
