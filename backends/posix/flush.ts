import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Unavailable } from '../errors.ts'
import { errnoOf } from './errno.ts'

const run = promisify(execFile)

/**
 * Makes all that was written to the filesystem of a directory durable: syncfs(2), which Node does not have. Rejects as
 * soon as `signal` aborts, though the kernel goes on.
 */
export async function flush(directory: string, signal: AbortSignal): Promise<void> {
  try {
    await run('sync', ['-f', directory], { signal })
  } catch (cause) {
    signal.throwIfAborted()
    if (errnoOf(cause) === 'ENOENT') throw new Error('the command sync of GNU coreutils is missing', { cause })
    throw new Unavailable('the filesystem of the volume cannot be flushed', { cause })
  }
}
