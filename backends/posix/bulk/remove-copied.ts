import fs from 'node:fs'
import { amountOf } from '../entry.ts'
import { errnoOf, gone, ignoreErrors } from '../errno.ts'
import { at, entriesOf, lstat, openInEach } from './directories.ts'
import { withWriteAccess } from './remove.ts'
import type { Run } from './run.ts'
import { Subdirectories } from './subdirectories.ts'
import { isSameTime } from './times.ts'
import type { Level, Operation } from './walk.ts'

/**
 * Removes from a tree what its copy has. The tree is still in its place, so its users go on using it: what came, or was
 * written to, since it was copied is left, and the directories that it is in.
 */
export function removeCopied(run: Run): Operation {
  const removeFile = ({ fd, copy }: Level, name: string) => {
    const stats = lstat(fd, name)
    if (stats === undefined) return
    if (!isCopied(stats, lstat(copy, name))) {
      run.countLeft()
      return
    }
    ignoreErrors(['ENOENT', 'EISDIR'], () => withWriteAccess(fd, () => fs.unlinkSync(at(fd, name))))
    const { files, bytes } = amountOf(stats)
    run.count(files, bytes)
  }

  return {
    open(parent, name) {
      const fds = openInEach(parent.fds, name)
      if (fds === undefined) run.countLeft()
      return fds
    },

    enter(level) {
      const subdirectories = new Subdirectories()
      for (const entry of entriesOf(level.fd)) {
        run.check()
        if (entry.isDirectory()) subdirectories.add(entry.name)
        else removeFile(level, entry.name)
      }
      return subdirectories.in(level.fd)
    },

    leave({ name }, parent) {
      if (parent === undefined) return
      try {
        withWriteAccess(parent.fd, () => fs.rmdirSync(at(parent.fd, name)))
      } catch (error) {
        const errno = errnoOf(error) ?? ''
        if (['ENOTEMPTY', 'EEXIST'].includes(errno)) run.countLeft()
        else if (!gone.includes(errno)) throw error
      }
    },
  }
}

/** Sockets, FIFOs and devices are no entries, and never copied. */
function isCopied(source: fs.Stats, copy: fs.Stats | undefined): boolean {
  if (!source.isFile() && !source.isSymbolicLink()) return true
  const isAlike = source.isFile() ? copy?.isFile() : copy?.isSymbolicLink()
  return copy !== undefined && isAlike === true && source.size === copy.size && isSameTime(source.mtimeMs, copy.mtimeMs)
}
