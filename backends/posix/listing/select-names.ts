import fs from 'node:fs'
import { pathOf } from '../inside.ts'
import { isSilly } from '../silly.ts'
import { Selection, type Wanted } from './selection.ts'

export interface SelectNames {
  fd: number
  wanted: Wanted
  stopped: Int32Array
}

/** Reads a directory, however many names it has, and gives the first of the wanted ones. */
export function selectNames({ fd, wanted, stopped }: SelectNames): ReturnType<Selection['end']> {
  const selection = new Selection(wanted)
  if (wanted.isNfs) return selectLookedAt({ fd, stopped }, selection)
  const directory = fs.opendirSync(pathOf(fd), { bufferSize: 1024 })
  try {
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
      selection.add(entry)
      if (Atomics.load(stopped, 0) !== 0) break
    }
  } finally {
    directory.closeSync()
  }
  return selection.end()
}

/** Node would look for the kinds too, but fail where an entry is gone. All names are in memory. */
function selectLookedAt({ fd, stopped }: Pick<SelectNames, 'fd' | 'stopped'>, selection: Selection) {
  for (const name of fs.readdirSync(pathOf(fd))) {
    const stats = isSilly(name) ? undefined : fs.lstatSync(`${pathOf(fd)}/${name}`, { throwIfNoEntry: false })
    if (stats !== undefined) selection.add({ name, isDirectory: () => stats.isDirectory() })
    if (Atomics.load(stopped, 0) !== 0) break
  }
  return selection.end()
}
