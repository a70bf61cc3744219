/** What the kernel counts of a project, and its hard limits, of which 0 is none. */
export interface ProjectQuota {
  bytes: number
  inodes: number
  maxBytes: number
  maxInodes: number
}

/** How much, the soft limit, the hard limit, how many warnings, and the time that is left to a soft limit. */
const counter = String.raw`\s+(\d+)\s+\d+\s+(\d+)\s+\d+\s+\[[^\]\n]*\]`

/** A device, blocks of 1 KiB, inodes and a mount point. A device with a long name has a line for itself. */
const quotaLine = new RegExp(String.raw`^\S[^\n]*?${counter}${counter}\s+/[^\n]*$`, 'm')

/**
 * Reads what `quota -p -n -N -v -b -i ID` prints. Nothing is printed of a project that never had an inode or a limit, and
 * where the kernel counts no projects, or may not be asked.
 */
export function parseQuota(output: string): ProjectQuota | undefined {
  const [, blocks, maxBlocks, inodes, maxInodes] = quotaLine.exec(output)?.map(Number) ?? []
  if (blocks === undefined || maxBlocks === undefined || inodes === undefined || maxInodes === undefined) {
    return undefined
  }
  return { bytes: blocks * 1024, maxBytes: maxBlocks * 1024, inodes, maxInodes }
}

/** Whether projects are limited, by what `state -p` prints; nothing is printed where they are not even counted. */
export function parseState(output: string): { counts: boolean; limits: boolean } {
  const [, project = ''] = output.split(/^Project quota state on .*$/m)
  return { counts: /^ *Accounting: ON$/m.test(project), limits: /^ *Enforcement: ON$/m.test(project) }
}

/** Whether a directory is of the project, by what `project -c -d 0 -p . ID` prints. */
export function parseCheck(output: string): boolean {
  return /^Checking project /m.test(output) && !/ is not set( |$)/m.test(output)
}
