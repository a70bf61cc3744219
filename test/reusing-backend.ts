import type { FastifyInstance } from 'fastify'
import type { Entry, OpenFile } from '../backends/backend.ts'
import { posix } from '../backends/posix/index.ts'

const pieceBytes = 10_000

/**
 * The posix backend with no more than the contract promises of what is read: many chunks, and the memory of each used
 * again as soon as the next one is asked for or the iteration ends; and files that know themselves by `this`.
 */
export default async (app: FastifyInstance) => {
  app.backends.register({
    ...posix,
    type: 'reusing',
    async create(context) {
      const { readMany: _, copy: __, clone: ___, ...backend } = await posix.create(context)
      return {
        ...backend,
        read: async (...args) => new ReusingFile(await backend.read(...args)),
        readUpload: async (...args) => new ReusingFile(await backend.readUpload(...args)),
      }
    },
  })
}

class ReusingFile implements OpenFile {
  readonly entry: Entry
  readonly #file: OpenFile

  constructor(file: OpenFile) {
    this.entry = file.entry
    this.#file = file
  }

  async *chunks(range: { start: number; end: number }): AsyncGenerator<Buffer> {
    const memory = Buffer.alloc(pieceBytes)
    for await (const chunk of this.#file.chunks(range)) {
      for (let at = 0; at < chunk.length; at += pieceBytes) {
        const bytes = chunk.copy(memory, 0, at)
        try {
          yield memory.subarray(0, bytes)
        } finally {
          memory.fill('!')
        }
      }
    }
  }

  close(): void {
    this.#file.close()
  }
}
