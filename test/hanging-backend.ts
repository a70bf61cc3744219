import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { Unavailable } from '../backends/errors.ts'
import { posix } from '../backends/posix/index.ts'

/**
 * A posix backend by somebody else, whose storage does not answer for some paths, like a mount whose server is gone: it
 * ignores the signal, and only logs it. For the path `away` it says that the storage is away; for `slow` it takes its time.
 */
export default async (app: FastifyInstance) => {
  app.backends.register({
    ...posix,
    type: 'hanging',
    async create(context) {
      // All listings are to go through `list`.
      const { listMany: _, ...backend } = await posix.create(context)
      const hangs = (signal: AbortSignal): Promise<never> => {
        signal.addEventListener('abort', () => context.log.info({ why: signal.reason.message }, 'asked to let go'))
        return new Promise(() => {})
      }
      return {
        ...backend,
        async stat(folder, path, call) {
          if (path === 'slow') await sleep(1100)
          if (path === 'away') throw new Unavailable('no tape')
          return path === 'hangs-in-stat' ? hangs(call.signal) : backend.stat(folder, path, call)
        },
        async *list(folder, options) {
          for await (const entry of backend.list(folder, options)) {
            if (entry.path.endsWith('hangs-in-list')) await hangs(options.signal)
            yield entry
          }
        },
        async read(folder, path, call) {
          if (path === 'hangs-in-read') return hangs(call.signal)
          const file = await backend.read(folder, path, call)
          if (path !== 'hangs-in-chunks') return file
          return {
            ...file,
            async *chunks(range) {
              for await (const chunk of file.chunks({ ...range, end: range.end - 1 })) yield chunk
              await hangs(call.signal)
            },
          }
        },
        async write(folder, path, source, options) {
          if (path === 'hangs-in-write') return hangs(options.signal)
          if (path === 'hangs-after-a-chunk') {
            for await (const _ of source) await hangs(options.signal)
          }
          return backend.write(folder, path, source, options)
        },
      }
    },
  })
}
