import { extname } from 'node:path'
import { createThreadPools, type Thread } from '../../thread-pool.ts'
import type { FromThread, ToThread } from './messages.ts'

const mostThreads = 16
/** A task takes two. */
const mostThreadsOfMount = 4

/**
 * Threads for work on whole trees. Such work is a long row of short system calls, and a trip through libuv's thread
 * pool costs several times what the call itself does, and keeps requests waiting.
 */
export const threadsFor = createThreadPools<ToThread, FromThread>(
  new URL(`./worker${extname(import.meta.url)}`, import.meta.url),
  { usual: mostThreads, most: mostThreads },
  { usual: mostThreadsOfMount, most: mostThreadsOfMount },
)

export type BulkThread = Thread<ToThread, FromThread>
