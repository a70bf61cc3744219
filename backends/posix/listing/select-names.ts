import fs from 'node:fs'
import { pathOf } from '../inside.ts'
import { Selection, type Wanted } from './selection.ts'

export interface SelectNames {
  fd: number
  wanted: Wanted
  stopped: Int32Array
}

/** Reads a directory, however many names it has, and gives the first of the wanted ones. */
export function selectNames({ fd, wanted, stopped }: SelectNames): ReturnType<Selection['end']> {
  const selection = new Selection(wanted)
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
