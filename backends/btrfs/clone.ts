import { join } from 'node:path'
import type { Cloned, CloneOptions } from '../backend.ts'
import {
  homeOf,
  type Layout,
  ownStaging,
  ownTrash,
  ownUploads,
  readdir,
  removeTrees,
  translateErrors,
} from '../posix/compose.ts'
import { btrfs } from './program.ts'

/**
 * Makes `to` a snapshot of `from`, in constant time: all files as they were at one moment. What was being written and
 * uploaded at that moment is in it too, and is removed.
 */
export async function snapshot(layout: Layout, from: string, to: string, { signal }: CloneOptions): Promise<Cloned> {
  const [source, target] = [homeOf(layout.folder(from)), homeOf(layout.folder(to))]
  await translateErrors('the vfolder', async () => {
    // The empty one, or what an earlier call made: a snapshot needs a free name. After a crash in between the next call
    // makes it anew.
    await btrfs(['subvolume', 'delete', target], { signal })
    await btrfs(['subvolume', 'snapshot', source, target], { signal })
    for (const place of [ownStaging, ownUploads]) {
      const directory = join(target, place)
      await removeTrees(directory, await readdir(directory), { signal })
    }
    // A clone has no trash.
    const names = await readdir(target)
    await removeTrees(
      target,
      names.filter((name) => name === ownTrash),
      { signal },
    )
  })
  return { changed: [], changedCount: 0 }
}
