import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Backend } from '../backends/backend.ts'
import { AlreadyExists } from '../backends/errors.ts'
import { parsePath } from '../backends/path.ts'
import { posix } from '../backends/posix/index.ts'

/**
 * Posix backends by somebody else, without a way to copy a directory: one that moves it in a step, one that moves it
 * entry by entry, and slowly, and one that no host can mount and that has no size.
 */
export default async (app: FastifyInstance) => {
  for (const type of ['plain', 'piecemeal', 'remote']) {
    app.backends.register({
      ...posix,
      type,
      async create(context) {
        const { copyTree: _, clone: __, readMany: ___, ...plain } = await posix.create(context)
        if (type === 'piecemeal') return { ...plain, move: movingPiecemeal(plain) }
        const { mount: ____, capacity: _____, ...remote } = plain
        return type === 'remote' ? remote : plain
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
