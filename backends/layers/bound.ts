import { Pool } from '../pool.ts'
import type { Operation } from './call.ts'
import type { Layer } from './layer.ts'

/**
 * The calls that wait for nothing but the storage, and end by themselves. Calls that take bytes are not bounded, since
 * they wait for their source: a file on the same volume, or a slow client. Nor are calls that may wait for such a call,
 * as a change of a file may wait for its writer; nor is `health`, since a busy storage is well.
 */
const bounded = new Set<Operation>([
  'createFolder',
  'stat',
  'list',
  'listMany',
  'listFolders',
  'read',
  'readMany',
  'beginUpload',
  'readUpload',
  'mkdir',
  'symlink',
  'usage',
  'quota',
  'capacity',
])

/**
 * Lets so many calls be under way at once; the others wait, in order, or until their signal aborts. A list and an
 * opened file count only while they are asked for an entry or a chunk. So a call that has a turn never waits for a call
 * that needs one, and nothing can hold up all turns for ever: a clone that reads and writes on one volume takes turns
 * for its reads alone.
 */
export function bound(maxCalls: number): Layer {
  const turns = new Pool<true>(() => true, maxCalls)

  return {
    // An `end` only frees something.
    covers: (operation, step) => step !== 'end' && bounded.has(operation),
    enter: (call) => (turns.take() ? undefined : turns.acquire(call.signal)),
    leave: () => turns.release(true),
  }
}
