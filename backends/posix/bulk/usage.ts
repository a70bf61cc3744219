import fs from 'node:fs'
import type { Amount } from '../../backend.ts'
import { gone, ignoreErrors } from '../errno.ts'
import { isSilly } from '../silly.ts'
import { at, entriesOf, openDirectory } from './directories.ts'
import type { Run } from './run.ts'
import { Shortcut } from './shortcut.ts'
import { Subdirectories } from './subdirectories.ts'
import type { Operation } from './walk.ts'

/** For so many files of a directory a shortcut costs more than it saves. */
const fewFiles = 64

const orUndefined = { throwIfNoEntry: false } as const

/** Counts files and symlinks, and the bytes of files. */
export function countUsage(run: Run, { root, isNfs }: { root: string; isNfs: boolean }): Operation {
  const countEntries = (fd: number, mayShorten: boolean) => {
    const amount: Amount = { files: 0, bytes: 0 }
    const subdirectories = new Subdirectories()
    let looked = 0
    let shortcut: Shortcut | undefined
    for (const entry of entriesOf(fd, { isNfs })) {
      run.check()
      if (isNfs && isSilly(entry.name)) continue
      if (entry.isFile()) {
        if (mayShorten && ++looked === fewFiles) shortcut = new Shortcut(fd, root)
        const path = shortcut?.isUsable ? shortcut.at(entry.name) : at(fd, entry.name)
        const stats = ignoreErrors(gone, () => fs.lstatSync(path, orUndefined))
        if (!stats?.isFile()) continue
        amount.files++
        amount.bytes += stats.size
      } else if (entry.isDirectory()) subdirectories.add(entry.name)
      else if (entry.isSymbolicLink()) amount.files++
    }
    return !shortcut?.isUsable || shortcut.hasHeld() ? { amount, subdirectories } : undefined
  }

  return {
    open(parent, name) {
      const fd = ignoreErrors(gone, () => openDirectory(parent.fd, name))
      return fd === undefined ? undefined : [fd]
    },

    enter({ fd }) {
      const counted = countEntries(fd, true) ?? countEntries(fd, false)
      if (counted === undefined) return []
      run.count(counted.amount.files, counted.amount.bytes)
      return counted.subdirectories.in(fd, { isNfs })
    },
  }
}
