import type { Call } from './backend.ts'
import { runTool } from './tool.ts'

/** Where the programs of a storage are, which an ordinary user's PATH may leave out. */
const path = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`

/** A list of all that a large storage has. */
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
  /** See `ToolLimits`. */
  share?: object | undefined
}

/**
 * Runs a program of the system for the storage, in English, and gives what it writes to its standard output.
 * @throws {ProgramFailed}
 * @throws {ToolFailed} when it cannot be started, or does not end by itself in time
 */
export async function runProgram(
  program: string,
  args: string[],
  { input, signal, timeoutSeconds, share }: ProgramOptions,
): Promise<string> {
  const tool = { file: program, args, env: { PATH: path, LC_ALL: 'C' }, ...(input !== undefined && { input }) }
  const { status, stdout, stderr } = await runTool(tool, { signal, timeoutSeconds, mostOutputBytes, share })
  if (status !== 0) throw new ProgramFailed(program, status, stderr)
  return stdout
}
