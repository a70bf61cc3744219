import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Backend } from '../backends/backend.ts'
import { AlreadyExists } from '../backends/errors.ts'
import { parsePath } from '../backends/path.ts'
import { posix } from '../backends/posix/index.ts'

/**
 * Posix backends by somebody else, without a way to copy a directory: one that moves it in a step, and one that moves it
 * entry by entry, and slowly.
 */
export default async (app: FastifyInstance) => {
  for (const type of ['plain', 'piecemeal']) {
    app.backends.register({
      ...posix,
      type,
      async create(context) {
        const { copyTree: _, clone: __, readMany: ___, ...plain } = await posix.create(context)
        return type === 'plain' ? plain : { ...plain, move: movingPiecemeal(plain) }
      },
    })
  }
}

function movingPiecemeal(backend: Backend): Backend['move'] {
  return async (folder, from, to, options) => {
    const { signal, toFolder = folder } = options
    if ((await backend.stat(folder, from, { signal })).type !== 'directory') {
      return backend.move(folder, from, to, options)
    }
    if (await backend.stat(toFolder, to, { signal }).catch(() => undefined)) {
      throw new AlreadyExists(`${to} exists already`)
    }
    await backend.mkdir(toFolder, to, { signal })
    for await (const { path, type } of backend.list(folder, { path: from, recursive: true, signal })) {
      await sleep(2, undefined, { signal })
      const target = parsePath(to + path.slice(from.length))
      if (type === 'directory') await backend.mkdir(toFolder, target, { signal })
      else await backend.move(folder, parsePath(path), target, options)
    }
    await backend.remove(folder, from, { recursive: true, signal })
    return { files: 0, bytes: 0 }
  }
}
