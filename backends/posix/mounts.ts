import { readFile } from 'node:fs/promises'
import { InvalidOperation } from '../errors.ts'

/**
 * Refuses a directory that other filesystems are mounted in: to move it would take them along, and to remove it would
 * remove what is on them, before it fails at their mount points.
 * @param location where the kernel says that it is
 * @param path how its vfolder calls it
 */
export async function refuseMounts(location: string, path: string): Promise<void> {
  const mounted = (await mountPoints()).find((point) => point === location || point.startsWith(`${location}/`))
  if (mounted === undefined) return
  const where = mounted === location ? 'it' : mounted.slice(location.length + 1)
  throw new InvalidOperation(`${path} cannot be moved or removed: another filesystem is mounted at ${where}`)
}

/** The fifth field of each line, in which some characters are octal numbers (proc_pid_mountinfo(5)). */
async function mountPoints(): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter(Boolean)
  return lines.map((line) =>
    (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    ),
  )
}
