import fs from 'node:fs'
import { isSilly } from '../silly.ts'
import { entriesOf, lstat, openInEach } from './directories.ts'
import type { Run } from './run.ts'
import { Subdirectories } from './subdirectories.ts'
import { isSameTime } from './times.ts'
import type { Operation } from './walk.ts'

/**
 * Tells the directories in which entries came or went since they were cloned, and the files that were written to: a
 * clone gives the copy the modification time that the source had before it was read.
 */
export function compare(run: Run, { isNfs }: { isNfs: boolean }): Operation {
  return {
    // What is in one of them only came or went, as the time of its directory tells.
    open: (parent, name) => openInEach(parent.fds, name),

    enter(level) {
      const { fd, copy } = level
      if (!isSameTime(fs.fstatSync(fd).mtimeMs, fs.fstatSync(copy).mtimeMs)) {
        run.tellChanged(level.prefix.slice(0, -1) || '.')
      }
      const subdirectories = new Subdirectories()
      for (const entry of entriesOf(fd, { isNfs })) {
        run.check()
        if (isNfs && isSilly(entry.name)) continue
        if (entry.isDirectory()) subdirectories.add(entry.name)
        else if (entry.isFile() && differ(lstat(fd, entry.name), lstat(copy, entry.name))) {
          run.tellChanged(level.path(entry.name))
        }
      }
      return subdirectories.in(fd, { isNfs })
    },
  }
}

/** Whether both are files that are not the same; one that is missing came or went. */
function differ(source: fs.Stats | undefined, copy: fs.Stats | undefined): boolean {
  if (!source?.isFile() || !copy?.isFile()) return false
  return source.size !== copy.size || !isSameTime(source.mtimeMs, copy.mtimeMs)
}
