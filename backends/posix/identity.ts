import fs from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Call } from '../backend.ts'
import { errnoOf, translateErrorsOf } from './errno.ts'
import { close, fsync, open, readdir, readFile, removeFile, rename } from './files.ts'
import type { Layout } from './layout.ts'
import { homeOf } from './places.ts'
import { syncDirectory } from './remove.ts'
import { writeFully } from './store.ts'

const { O_CREAT, O_EXCL, O_WRONLY } = fs.constants

const what = 'the identity of the volume'
/** Whoever writes longer has died. */
const longestWriteMilliseconds = 2000
const retryMilliseconds = 50

/** The text in the volume's root; undefined when there is none, or no root. */
export async function readIdentity(layout: Layout): Promise<string | undefined> {
  try {
    return await readFile(layout.identity)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    return translateErrorsOf(what, () => Promise.reject(error))
  }
}

/** Makes the places of the volume, too. A reader sees the old text or the new one. */
export async function writeIdentity(layout: Layout, text: string): Promise<void> {
  await translateErrorsOf(what, async () => {
    await layout.makePlaces()
    // One name for all processes: what a crash leaves is found again, and does not look like a file being written.
    const staged = `${layout.identity}.new`
    const fd = await openNew(staged)
    try {
      await writeFully(fd, Buffer.from(text), 0)
      await fsync(fd)
    } finally {
      close(fd)
    }
    await rename(staged, layout.identity)
    await syncDirectory(layout.root)
  })
}

/** Opens a file that only one process writes at a time, and takes it over from one that died. */
async function openNew(path: string): Promise<number> {
  for (let waited = 0; ; waited += retryMilliseconds) {
    try {
      return await open(path, O_WRONLY | O_CREAT | O_EXCL, 0o644)
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
    }
    await sleep(retryMilliseconds)
    if (waited > longestWriteMilliseconds) await removeFile(path)
  }
}

/** In the order of the directories that they are spread over: each level is read whole, and sorted. */
export async function* listFolders(
  layout: Layout,
  { after, signal }: Call & { after?: string },
): AsyncGenerator<string> {
  const start =
    after === undefined
      ? []
      : homeOf(layout.folder(after))
          .slice(layout.folders.length + 1)
          .split('/')
  yield* walk(layout.folders, start, 2, signal)
}

async function* walk(directory: string, start: string[], levels: number, signal: AbortSignal): AsyncGenerator<string> {
  signal.throwIfAborted()
  const [first = '', ...rest] = start
  for (const name of await namesIn(directory)) {
    if (name < first) continue
    if (levels > 0) yield* walk(join(directory, name), name === first ? rest : [], levels - 1, signal)
    else if (name !== first) yield name
  }
}

async function namesIn(directory: string): Promise<string[]> {
  const names = await translateErrorsOf('the directory of the vfolders', () =>
    readdir(directory).catch((error) => {
      // A level that a removal takes away meanwhile has nothing in it.
      if (errnoOf(error) === 'ENOENT') return []
      throw error
    }),
  )
  return names.sort()
}
