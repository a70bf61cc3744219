import { opendir, open as openFile, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Call } from '../backend.ts'
import { NotFound } from '../errors.ts'
import { errnoOf, translateErrors } from './errno.ts'
import type { Layout } from './layout.ts'
import { syncDirectory } from './remove.ts'

const what = 'the identity of the volume'

/** The text in the volume's root; undefined when there is none, or no root. */
export async function readIdentity(layout: Layout): Promise<string | undefined> {
  try {
    return await readFile(layout.identity, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    return translateErrors(what, () => Promise.reject(error))
  }
}

/** Makes the places of the volume, too. A reader sees the old text or the new one. */
export async function writeIdentity(layout: Layout, text: string): Promise<void> {
  await translateErrors(what, async () => {
    await layout.makePlaces()
    const staged = layout.newStaging()
    const file = await openFile(staged, 'wx', 0o644)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(staged, layout.identity)
    await syncDirectory(layout.root)
  })
}

/** In the order of the directories that they are spread over: each level is read whole, and sorted. */
export async function* listFolders(
  layout: Layout,
  { after, signal }: Call & { after?: string },
): AsyncGenerator<string> {
  const start =
    after === undefined
      ? []
      : layout
          .folder(after)
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
  const names: string[] = []
  try {
    for await (const { name } of await translateErrors('the vfolders', () => opendir(directory))) names.push(name)
  } catch (error) {
    // A level that a removal takes away meanwhile has nothing in it.
    if (!(error instanceof NotFound)) throw error
  }
  return names.sort()
}
