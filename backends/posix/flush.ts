import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Unavailable } from '../errors.ts'
import { errnoOf } from './errno.ts'

const run = promisify(execFile)

let hasSync = false

/** Looks once in the life of the process. @throws when a flush could not be asked for */
export async function requireSync(): Promise<void> {
  if (hasSync) return
  await run('sync', ['--version']).catch((cause) => {
    if (errnoOf(cause) === 'ENOENT') throw new Error('the command sync of GNU coreutils is missing', { cause })
  })
  hasSync = true
}

/**
 * Makes all that was written to the filesystem of a directory durable: syncfs(2), which Node does not have. Rejects as
 * soon as `signal` aborts, though the kernel goes on.
 */
export async function flush(directory: string, signal: AbortSignal): Promise<void> {
  try {
    await run('sync', ['-f', directory], { signal })
  } catch (cause) {
    signal.throwIfAborted()
    throw new Unavailable('the filesystem of the volume cannot be flushed', { cause })
  }
}
