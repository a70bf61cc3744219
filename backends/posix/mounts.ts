import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { InvalidOperation, VolumeUnavailable } from '../errors.ts'
import { descriptorIn } from './descriptors.ts'

/**
 * Refuses a directory that other filesystems are mounted in: to move it would take them along, and to remove it would
 * remove what is on them, before it fails at their mount points.
 * @param location where the kernel says that it is
 * @param path how its vfolder calls it
 */
export async function refuseMounts(location: string, path: string): Promise<void> {
  const points = (await readMounts()).map(({ point }) => point)
  const mounted = points.find((point) => point === location || point.startsWith(`${location}/`))
  if (mounted === undefined) return
  const where = mounted === location ? 'it' : mounted.slice(location.length + 1)
  throw new InvalidOperation(`${path} cannot be moved or removed: another filesystem is mounted at ${where}`)
}

export interface MountEntry {
  id: string
  /** Where it is mounted. */
  point: string
  /** Of its filesystem. */
  type: string
}

/**
 * What is mounted, in the order in which it was; the kernel asks no filesystem for it, so this never hangs. Of each line
 * of proc_pid_mountinfo(5) the first and the fifth field, and the one behind the hyphen; some characters are octal numbers.
 */
export async function readMounts(): Promise<MountEntry[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter(Boolean)
  return lines.map((line) => {
    const [id = '', , , , point = ''] = line.split(' ')
    const [type = ''] = line.slice(line.indexOf(' - ') + 3).split(' ')
    return { id, point: decode(point), type: decode(type) }
  })
}

function decode(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** The mount that a path without symlinks leads to, as far as what is mounted tells. */
export function mountAt(mounts: MountEntry[], path: string): MountEntry | undefined {
  const above = mounts.filter(({ point }) => join(path, '/').startsWith(join(point, '/')))
  const longest = Math.max(...above.map(({ point }) => point.length))
  return above.findLast(({ point }) => point.length === longest)
}

/** Where the filesystem is mounted that a path without symlinks leads to, by a descriptor or not. */
export async function mountPointOf(path: string): Promise<string> {
  const fd = descriptorIn(path)
  const id = fd === undefined ? undefined : await mountOf(fd)
  const mounts = await readMounts()
  const mount = fd === undefined ? mountAt(mounts, path) : mounts.find((mount) => mount.id === id)
  if (mount === undefined) throw new VolumeUnavailable('the mount of the volume was taken away')
  return mount.point
}

/** The ID of the mount that an open file is on. */
export async function mountOf(fd: number): Promise<string | undefined> {
  const info = await readFile(`/proc/self/fdinfo/${fd}`, 'utf8')
  return /^mnt_id:\s*(\d+)$/m.exec(info)?.[1]
}
