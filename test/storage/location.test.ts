import { mkdir, rename, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parsePath } from '../../backends/path.ts'
import { call, startPosix } from '../posix.ts'

t.test('where an open file of a posix volume is', async (t) => {
  const posix = await startPosix(t)
  const { id, path: root } = await posix.createFolder()
  await mkdir(join(root, 'dir'))
  const place = join(root, 'dir/file')

  /** The location of an open file after `change`. */
  async function after(change: () => Promise<unknown>, opened = 'dir/file'): Promise<string | undefined> {
    await writeFile(place, 'content')
    const file = await posix.backend.read(id, parsePath(opened))
    try {
      await change()
      return await file.location()
    } finally {
      file.close()
    }
  }

  t.equal(await after(async () => {}), place)
  t.equal(await after(() => writeFile(place, 'other content')), place, 'a change in place')
  await symlink('dir', join(root, 'link'))
  t.equal(await after(async () => {}, 'link/file'), place, 'opened through a symlink')

  await writeFile(join(root, 'other'), 'other')
  t.equal(await after(() => rename(join(root, 'other'), place)), undefined, 'replaced')
  t.equal(await after(() => unlink(place)), undefined, 'removed')
  t.equal(await after(() => rename(place, join(root, 'moved'))), join(root, 'moved'), 'moved inside the vfolder')
  t.equal(await after(() => posix.backend.removeFolder(id, call)), undefined, 'moved out with the whole vfolder')
  t.same(await posix.openFiles(), [])
})
