import { basename, dirname } from 'node:path'
import type { Amount, Call, CopyTreeOptions } from '../backend.ts'
import { afterChange } from '../errors.ts'
import { runTask } from './bulk/task.ts'
import { createDirectories, type Ownership, openDirectory } from './directory.ts'
import { translateErrors, translateErrorsOf } from './errno.ts'
import { copyExtended } from './extended-trees.ts'
import { fstat, mkdir, utimes } from './files.ts'
import { flush } from './flush.ts'
import type { Place } from './layout.ts'
import { renameDirectory } from './move.ts'
import { stagingOf } from './places.ts'
import { removeTrees, syncDirectory } from './remove.ts'
import { translateStaging } from './staging.ts'

/** How often what is staged is touched, so that it does not count as a dead writer's: that takes two seconds at least. */
const touchMilliseconds = 500
/** There is no earlier attempt to go on from. */
const nothingIsDone = { before: 0, since: Number.POSITIVE_INFINITY }

/** Copies a directory into the staging place, in the way of a clone, flushes it, and renames it. */
export async function copyTree(
  { root, names: from }: Place,
  to: Place,
  { signal, admit }: CopyTreeOptions,
): Promise<Amount> {
  const source = await openDirectory(root, from)
  const place = stagingOf(to.root)
  const staging = to.layout.newStaging(place)
  const touch = () => utimes(staging, new Date(), new Date()).catch(() => {})
  const touching = setInterval(touch, touchMilliseconds)
  try {
    await translateStaging(to.root, 'the staging place', () => mkdir(staging, 0o700))
    const copied = await copyInto(place, basename(staging), source.fd, {
      base: `${from.join('/')}/`,
      ownership: to.ownership,
      isNfs: to.layout.isNfs,
      signal,
    })
    await admit(copied)
    signal.throwIfAborted()
    clearInterval(touching)
    await translateErrorsOf('the staging place', async () => {
      const { atime, mtime } = await fstat(source.fd)
      await utimes(staging, atime, mtime)
    })
    await appear(staging, to, copied)
    return copied
  } catch (error) {
    clearInterval(touching)
    // Also of a call that was aborted. When that fails too, the first error is the one to tell, and the rest is garbage.
    await removeTrees(place, [basename(staging)], {
      signal: new AbortController().signal,
      isNfs: to.layout.isNfs,
    }).catch(() => {})
    throw error
  } finally {
    source.close()
  }
}

/** Fills a directory of the staging place, and makes it durable. */
async function copyInto(
  place: string,
  name: string,
  source: number,
  { base, ownership, isNfs, signal }: Call & { base: string; ownership: Ownership; isNfs: boolean },
) {
  const copy = await openDirectory(place, [name])
  try {
    const work = { kind: 'clone', durable: nothingIsDone, isNfs } as const
    const { files, bytes } = await runTask(work, { fds: [source, copy.fd], base }, { signal })
    if (ownership.extended) await copyExtended(source, copy.fd, { signal })
    await flush(place, signal)
    return { files, bytes }
  } finally {
    copy.close()
  }
}

async function appear(staging: string, { root, names, ownership }: Place, copied: Amount): Promise<void> {
  const path = names.join('/')
  const parent = await createDirectories(root, names.slice(0, -1), ownership)
  try {
    await translateErrors(path, () => renameDirectory(staging, parent.at(names.at(-1) ?? ''), path))
    await afterChange(path, copied, async () => {
      await parent.sync()
      await syncDirectory(dirname(staging))
    })
  } finally {
    parent.close()
  }
}
