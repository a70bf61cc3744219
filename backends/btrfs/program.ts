import type { Call } from '../backend.ts'
import { shareOf } from '../posix/compose.ts'
import { runProgram } from '../program.ts'

/** A commit of a busy filesystem takes its time. */
const timeoutSeconds = 60

/** Runs `btrfs` of btrfs-progs. */
export function btrfs(args: string[], { signal }: Call): Promise<string> {
  const share = args.map(shareOf).find((share) => share !== undefined)
  return runProgram('btrfs', args, { signal, timeoutSeconds, share })
}
