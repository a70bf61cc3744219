import { execFile } from 'node:child_process'
import type { Call } from './backend.ts'
import { Unavailable } from './errors.ts'

/** Where the programs of a storage are, which an ordinary user's PATH may leave out. */
const path = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`
const mostOutputBytes = 16 * 1024 * 1024

/** What the C library says of errors (strerror(3)), and so do the programs, mostly behind a colon. */
const errnos: Record<string, string> = {
  'Disk quota exceeded': 'EDQUOT',
  'Input/output error': 'EIO',
  'No such attribute': 'ENODATA',
  'No such file or directory': 'ENOENT',
  'No space left on device': 'ENOSPC',
  'Operation not permitted': 'EPERM',
  'Operation not supported': 'ENOTSUP',
  'Permission denied': 'EACCES',
  'Read-only file system': 'EROFS',
  'Stale file handle': 'ESTALE',
}

/** A program that ended with another status than 0. It counts as the system error that the program told of. */
export class ProgramFailed extends Error {
  /** The error of the system; EIO where the program tells none that is known. */
  readonly code: string
  readonly status: number | undefined
  /** What it wrote to stderr. */
  readonly reason: string

  constructor(program: string, status: number | undefined, reason: string) {
    super(`${program} failed: ${reason || `status ${status}`}`)
    this.code = Object.entries(errnos).find(([text]) => reason.includes(text))?.[1] ?? 'EIO'
    this.status = status
    this.reason = reason
  }
}

export interface ProgramOptions extends Call {
  /** It is killed when it takes longer. */
  timeoutSeconds: number
  /** What it reads from stdin. */
  input?: string
}

/**
 * Runs a program of the storage, without a shell, in English, and gives what it writes to stdout.
 * @throws {ProgramFailed}
 * @throws {Unavailable} when it does not end in time
 */
export function runProgram(
  program: string,
  args: string[],
  { signal, timeoutSeconds, input = '' }: ProgramOptions,
): Promise<string> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const env = { ...process.env, PATH: path, LC_ALL: 'C' }
    const options = { env, maxBuffer: mostOutputBytes, timeout: timeoutSeconds * 1000, killSignal: 'SIGKILL' } as const
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      signal.removeEventListener('abort', abort)
      if (signal.aborted) reject(signal.reason)
      else if (error === null) resolve(stdout)
      else if (error.code === 'ENOENT') reject(new Error(`the program ${program} is missing`, { cause: error }))
      else if (error.killed) reject(new Unavailable(`${program} did not end within ${timeoutSeconds} s`))
      else reject(new ProgramFailed(program, Number(error.code) || undefined, stderr.trim()))
    })
    const abort = () => child.kill('SIGKILL')
    signal.addEventListener('abort', abort)
    // One that does not read its input has its reasons; how it ends says more.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}
