import type { Call } from '../../backend.ts'
import type { Directory } from '../directory.ts'
import { opendir } from '../files.ts'
import type { Run } from './runs.ts'
import { Selection, type Wanted } from './selection.ts'
import { selectNames } from './threads.ts'

// A directory gives its names in no order, so the first ones are known when all were read. Those of a large one are
// read and sorted by a thread: a million of them would keep the event loop busy for a second.

/** Up to so many names, a directory is read without a thread. */
const fewNames = 4096

export interface Names {
  run: Run
  /** Whether there are none behind these. */
  isComplete: boolean
  areMany: boolean
}

/** The wanted names of a directory that come first, as order keys. */
export async function readNames(directory: Directory, wanted: Wanted, call: Call): Promise<Names> {
  // There each kind is asked for, which a thread does.
  const few = wanted.isNfs ? undefined : await readFew(directory, wanted, call)
  if (few !== undefined) return { ...few, areMany: false }
  return { ...(await selectNames(directory.fd, wanted, call)), areMany: true }
}

async function readFew(directory: Directory, wanted: Wanted, { signal }: Call) {
  const selection = new Selection(wanted)
  let read = 0
  for await (const entry of await opendir(directory.at('.'), { bufferSize: 1024 })) {
    signal.throwIfAborted()
    if (++read > fewNames) return undefined
    selection.add(entry)
  }
  return selection.end()
}
