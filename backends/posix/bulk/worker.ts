import fs from 'node:fs'
import { setPriority } from 'node:os'
import { basename } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { clone } from './clone.ts'
import { compare } from './compare.ts'
import type { ToThread, Work } from './messages.ts'
import { remove } from './remove.ts'
import { removeCopied } from './remove-copied.ts'
import { Run } from './run.ts'
import { countUsage } from './usage.ts'
import { type Operation, walk } from './walk.ts'

/** Behind the threads that serve requests. On Linux a priority is that of one thread (setpriority(2), NOTES). */
const niceness = 15

setPriority(Number(basename(fs.readlinkSync('/proc/thread-self'))), niceness)

parentPort?.on('message', ({ work, share, state }: ToThread) => {
  const run = new Run(state)
  try {
    walk(createOperation(work, run), share, run)
    run.finish()
  } catch (error) {
    run.finish(error)
  }
})

function createOperation(work: Work, run: Run): Operation {
  switch (work.kind) {
    case 'usage':
      return countUsage(run, work)
    case 'remove':
      return remove(run, work)
    case 'remove-copied':
      return removeCopied(run)
    case 'clone':
      return clone(run, work)
    case 'compare':
      return compare(run, work)
  }
}
