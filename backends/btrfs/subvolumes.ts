import { basename, dirname } from 'node:path'
import { AlreadyExists } from '../errors.ts'
import { type Homes, lstat, removeTrees, translateErrorsOf } from '../posix/compose.ts'
import { btrfs } from './program.ts'

/** The inode of the root directory of every subvolume (btrfs(5)). */
const rootInode = 256

const what = 'the subvolume of the vfolder'

/** A vfolder is a subvolume. */
export const subvolumes: Homes = {
  async make(location, call) {
    if (await isSubvolume(location)) return
    await translateErrorsOf(what, () => btrfs(['subvolume', 'create', location], call)).catch(async (error) => {
      // Somebody else was faster.
      if (call.signal.aborted || !(await isSubvolume(location))) throw error
    })
  },

  async free(location, { signal, onProgress }) {
    try {
      // Without the commit it could come back after a crash.
      await btrfs(['subvolume', 'delete', '--commit-after', location], { signal })
    } catch {
      signal.throwIfAborted()
      // There are subvolumes in it, or only root may delete one at once. An empty one goes like a directory.
      await removeTrees(dirname(location), [basename(location)], { signal, onProgress, called: '' })
    }
  },
}

/** @throws {AlreadyExists} when something else is there */
async function isSubvolume(location: string): Promise<boolean> {
  const stats = await lstat(location).catch(() => undefined)
  if (stats !== undefined && stats.ino !== rootInode) throw new AlreadyExists(`${what} is no subvolume`)
  return stats !== undefined
}
