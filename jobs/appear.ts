import type { Backend } from '../backends/backend.ts'
import { AlreadyExists, NotADirectory, Unavailable } from '../backends/errors.ts'
import { type EntryPath, parsePath } from '../backends/path.ts'
import { findEntry } from '../plugins/vfolders/find-entry.ts'

interface Appearance {
  /** The vfolder in which the directory is staged, under the path that it is to have. */
  staging: string
  folder: string
  path: EntryPath
  /** An earlier attempt may have begun. */
  isLater: boolean
}

/**
 * Lets a directory appear that nobody else has written to: in one step where moving it is one, and otherwise entry by
 * entry, to the end, however often that has to be begun.
 * @throws {AlreadyExists} and {NotADirectory} when there is no place for it, and it has not begun to appear
 * @throws {Unavailable} for any other reason
 */
export async function appear(backend: Backend, appearance: Appearance, signal: AbortSignal): Promise<void> {
  const { staging, folder, path, isLater } = appearance
  if ((await findEntry(backend, staging, path, signal)) === undefined) return
  try {
    await backend.move(staging, path, path, { toFolder: folder, signal })
  } catch (error) {
    if (error instanceof AlreadyExists && isLater) return moveEntries(backend, appearance, signal)
    if (error instanceof AlreadyExists || error instanceof NotADirectory) throw error
    signal.throwIfAborted()
    // Also what does not pass elsewhere: a part of it may be seen by now.
    throw new Unavailable(`${path} cannot appear for now`, { cause: error })
  }
}

/** Goes on where a move that is no single step was broken off. What others have made there meanwhile stays. */
async function moveEntries(
  backend: Backend,
  { staging, folder, path }: Appearance,
  signal: AbortSignal,
): Promise<void> {
  const ignore = (error: unknown) => {
    if (!(error instanceof AlreadyExists || error instanceof NotADirectory)) throw error
  }
  for await (const entry of backend.list(staging, { path, recursive: true, signal })) {
    const inside = parsePath(entry.path)
    if (entry.type === 'directory') await backend.mkdir(folder, inside, { signal }).catch(ignore)
    else await backend.move(staging, inside, inside, { toFolder: folder, signal }).catch(ignore)
  }
}
