import { entriesOf, gone, lstat, openDirectory, unless } from './directories.ts'
import type { Run } from './run.ts'
import type { Level, Operation } from './walk.ts'

/** Counts files and symlinks, and the bytes of files. */
export function usage(run: Run): Operation {
  return {
    open(parent, name) {
      const fd = unless(gone, () => openDirectory(parent.fd, name))
      return fd === undefined ? undefined : [fd]
    },

    enter({ fd }: Level) {
      const subdirectories: string[] = []
      for (const entry of entriesOf(fd)) {
        run.check()
        if (entry.isDirectory()) subdirectories.push(entry.name)
        else if (entry.isSymbolicLink()) run.count(1, 0)
        else if (entry.isFile()) {
          const stats = lstat(fd, entry.name)
          if (stats?.isFile()) run.count(1, stats.size)
        }
      }
      return subdirectories
    },
  }
}
