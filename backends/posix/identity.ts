import fs from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Call } from '../backend.ts'
import { errnoOf, isGone, translateErrorsOf } from './errno.ts'
import { close, fsync, open, readdir, readFile, removeFile, rename } from './files.ts'
import type { Layout } from './layout.ts'
import { homeOf, scopeName } from './places.ts'
import { syncDirectory } from './remove.ts'
import { writeFully } from './store.ts'

const { O_CREAT, O_EXCL, O_WRONLY } = fs.constants

const what = 'the identity of the volume'
/** Whoever writes longer has died. */
const longestWriteMilliseconds = 2000
const retryMilliseconds = 50

const anyNames = [/^/, /^/, /^/]
/** See `Layout`, `byScope`. */
const levels = [scopeName, /^[0-9a-f]{2}$/, /^[0-9a-f]{2}$/, /^[0-9a-f]{28}$/]

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
    await syncDirectory(dirname(layout.identity))
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
  if (!layout.byScope) {
    for await (const [, , id = ''] of walk(layout.folders, start, anyNames, signal)) yield id
    return
  }
  for await (const [scope = '', ...parts] of walk(layout.folders, start, levels, signal)) {
    yield `${toUuid(scope)}/${toUuid(parts.join(''))}`
  }
}

/** The directories of the quota scopes, where there are some. */
export async function listScopes(layout: Layout): Promise<string[]> {
  const names = await namesIn(layout.folders)
  return names.filter((name) => scopeName.test(name)).map((name) => join(layout.folders, name))
}

/** What has a name that fits on each level. */
async function* walk(
  directory: string,
  start: string[],
  [fits, ...below]: RegExp[],
  signal: AbortSignal,
): AsyncGenerator<string[]> {
  signal.throwIfAborted()
  const [first = '', ...rest] = start
  for (const name of await namesIn(directory)) {
    if (name < first || !fits?.test(name)) continue
    if (below.length === 0) {
      if (name !== first) yield [name]
      continue
    }
    const inside = walk(join(directory, name), name === first ? rest : [], below, signal)
    for await (const names of inside) yield [name, ...names]
  }
}

function toUuid(hex: string): string {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

async function namesIn(directory: string): Promise<string[]> {
  const names = await translateErrorsOf('the directory of the vfolders', () =>
    readdir(directory).catch((error) => {
      // A level that a removal takes away meanwhile has nothing in it, nor has a file that somebody put there.
      if (isGone(error)) return []
      throw error
    }),
  )
  return names.sort()
}
