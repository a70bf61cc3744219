import { mostCalls } from './calls.ts'

/** For all that is not on a guarded mount: fsync(2) holds a thread for as long as the disk takes. */
const usualThreads = 16
/** The most that libuv starts. */
const mostThreads = 1024
/** Types of backends whose volumes are always guarded. */
const alwaysMounted = ['nfs', 'cephfs']

/**
 * The threads that libuv's pool needs, so that mounts that hang leave the usual ones to the others: the places of each
 * guarded mount, the look at whether it answers, the look at where it is at the start, and the places of a mount that
 * hung and was replaced.
 */
export function threadsFor(volumes: Iterable<{ backend: string; mount?: unknown }>): number {
  const guarded = [...volumes].filter(({ backend, mount }) => Boolean(mount) || alwaysMounted.includes(backend))
  return Math.min(usualThreads + guarded.length * (2 * mostCalls + 3), mostThreads)
}
