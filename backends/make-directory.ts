import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a directory, and those that lead to it, unless it is there; a symlink to one will do. Not by `recursive` of
 * Node's mkdir, which tries for ever below a directory that takes no new ones and says ENOENT, such as /proc.
 * @throws what mkdir(2) says of the first one that cannot be made
 */
export async function makeDirectory(path: string, mode?: number): Promise<void> {
  if (await isDirectory(path)) return
  const parent = dirname(path)
  if (parent !== path) await makeDirectory(parent)
  try {
    await mkdir(path, mode)
  } catch (error) {
    // Somebody else may have been faster.
    if (!(await isDirectory(path))) throw error
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}
