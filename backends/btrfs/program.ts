import type { Call } from '../backend.ts'
import { runProgram } from '../program.ts'

/** A commit of a busy filesystem takes its time. */
const timeoutSeconds = 60

/** Runs `btrfs` of btrfs-progs. */
export function btrfs(args: string[], { signal }: Call): Promise<string> {
  return runProgram('btrfs', args, { signal, timeoutSeconds })
}
