/** Shorter for the kernel than `/proc/self`, which is a symlink. */
const descriptors = `/proc/${process.pid}/fd/`

/** The path of what a descriptor stands for: the kernel follows it to that very file or directory (proc_pid_fd(5)). */
export function pathOf(fd: number): string {
  return descriptors + fd
}

/** The descriptor that a path leads through; undefined for a path that leads through none. */
export function descriptorIn(path: string): number | undefined {
  if (!path.startsWith(descriptors)) return undefined
  const end = path.indexOf('/', descriptors.length)
  return Number(path.slice(descriptors.length, end < 0 ? undefined : end))
}
