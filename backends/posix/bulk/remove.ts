import fs from 'node:fs'
import { amountOf } from '../entry.ts'
import { errnoOf, ignoreErrors } from '../errno.ts'
import { isSilly } from '../silly.ts'
import { at, entriesOf, lstat, openDirectory } from './directories.ts'
import type { Run } from './run.ts'
import { Subdirectories } from './subdirectories.ts'
import type { Level, Operation } from './walk.ts'

/**
 * Removes trees that nobody can reach any more, but some may still hold open. So every step goes through an open
 * directory and follows no symlink: one that is put in the way would have something else removed. What was put in a
 * directory after it was read, or is still being removed by another thread, is left to be removed by another walk.
 */
export function remove(run: Run, { isNfs }: { isNfs: boolean }): Operation {
  const unlink = (fd: number, name: string) => {
    const stats = lstat(fd, name)
    // EISDIR: it has become a directory, which another walk removes (unlink(2)). EBUSY: the client keeps it until it is
    // closed.
    const removed = ignoreErrors(['ENOENT', 'EISDIR', ...(isSilly(name) ? ['EBUSY'] : [])], () => {
      withWriteAccess(fd, () => fs.unlinkSync(at(fd, name)))
      return true
    })
    if (!removed || stats === undefined) return
    const { files, bytes } = amountOf(stats)
    run.count(files, bytes)
  }

  return {
    open(parent, name) {
      try {
        return [openDirectory(parent.fd, name)]
      } catch (error) {
        const errno = errnoOf(error) ?? ''
        if (['ENOTDIR', 'ELOOP'].includes(errno)) unlink(parent.fd, name)
        else if (errno !== 'ENOENT') throw error
        return undefined
      }
    },

    enter({ fd }) {
      const subdirectories = new Subdirectories()
      for (const entry of entriesOf(fd, { isNfs })) {
        run.check()
        if (entry.isDirectory()) subdirectories.add(entry.name)
        else unlink(fd, entry.name)
      }
      return subdirectories.in(fd, { isNfs })
    },

    leave({ name }: Level, parent) {
      if (parent === undefined) return
      const removed = ignoreErrors(['ENOTEMPTY', 'EEXIST'], () => {
        ignoreErrors(['ENOENT'], () => withWriteAccess(parent.fd, () => fs.rmdirSync(at(parent.fd, name))))
        return true
      })
      if (!removed) run.countLeft()
    },
  }
}

/** An owner may have taken the permission to write in a directory from all, and so from this process too. */
export function withWriteAccess(fd: number, operation: () => void): void {
  try {
    operation()
  } catch (error) {
    if (errnoOf(error) !== 'EACCES') throw error
    fs.fchmodSync(fd, 0o700)
    operation()
  }
}
