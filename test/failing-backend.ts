import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import { EntryAccessDenied, Unavailable } from '../backends/errors.ts'
import { posix } from '../backends/posix/index.ts'

/**
 * A posix backend by somebody else, without a step by which a tree is copied, which fails as long as a file is in its root
 * that is called as the call is: for a moment when that says so, and for good otherwise.
 */
export default async (app: FastifyInstance) => {
  app.backends.register({
    ...posix,
    type: 'failing',
    async create(context) {
      const { copyTree: _, clone: __, ...backend } = await posix.create(context)
      const { root } = Value.Parse(Type.Object({ root: Type.String() }), context.options)
      const fail = (call: string) => {
        const file = join(root, `fail-${call}`)
        if (!existsSync(file)) return
        if (readFileSync(file, 'utf8') === 'for a moment') throw new Unavailable('no tape')
        throw new EntryAccessDenied('no right')
      }
      return {
        ...backend,
        async removeFolder(folder, options) {
          fail('removeFolder')
          return backend.removeFolder(folder, options)
        },
        async write(folder, path, source, options) {
          fail('write')
          return backend.write(folder, path, source, options)
        },
        async copy(folder, from, to, options) {
          fail('copy')
          if (backend.copy === undefined) throw new Error('posix copies')
          return backend.copy(folder, from, to, options)
        },
        async move(folder, from, to, options) {
          fail('move')
          return backend.move(folder, from, to, options)
        },
        async remove(folder, path, options) {
          if (path === 'fails') fail('remove')
          return backend.remove(folder, path, options)
        },
      }
    },
  })
}
