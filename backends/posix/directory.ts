import fs from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { NotFound, OutsideFolder, Unavailable } from '../errors.ts'
import { maxPathBytes } from '../path.ts'
import { errnoOf, translated } from './errno.ts'
import { close, fchmod, fchown, fsync, open } from './files.ts'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants

/** Who owns what is created, and its modes; an absent owner is the process's. */
export interface Ownership {
  uid: number | undefined
  gid: number | undefined
  fileMode: number
  directoryMode: number
}

/**
 * A directory held open. Its entries are reached through the descriptor, as with openat(2), which Node does not have:
 * the kernel follows `/proc/self/fd/N` to that very directory (proc_pid_fd(5)), whatever its path names by then.
 */
export class Directory {
  readonly fd: number

  constructor(fd: number) {
    this.fd = fd
  }

  at(name: string): string {
    return `/proc/self/fd/${this.fd}/${name}`
  }

  /** Opens a directory in this one, unless it is a symlink. */
  async child(name: string): Promise<Directory> {
    return new Directory(await open(this.at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
  }

  /** Makes changes of this directory's entries durable (fsync(2), NOTES). */
  async sync(): Promise<void> {
    await fsync(this.fd)
  }

  close(): void {
    close(this.fd)
  }
}

/**
 * Checks that an open file or directory is inside `root`, wherever symlinks led on the way. readlink of a descriptor
 * is answered from memory, so it is done without a trip to the thread pool.
 */
function assertInside(fd: number, root: string, path: string): void {
  const location = fs.readlinkSync(`/proc/self/fd/${fd}`)
  if (location === root || location.startsWith(`${root}/`)) return
  // The vfolder was removed after the open: its directory has moved.
  if (!fs.existsSync(root)) throw new NotFound(`${path} does not exist`)
  throw new OutsideFolder(`${path} leads out of the vfolder`)
}

/** The name by which an open file is found inside `root`; undefined when that leads to another file or nowhere by now. */
export function locationOf(fd: number, root: string): string | undefined {
  const location = fs.readlinkSync(`/proc/self/fd/${fd}`)
  if (!location.startsWith(`${root}/`)) return undefined
  const { dev, ino } = fs.fstatSync(fd)
  const named = fs.lstatSync(location, { throwIfNoEntry: false })
  return named?.dev === dev && named.ino === ino ? location : undefined
}

/** From the directory of a vfolder to the one that has them all; see `Layout`. */
const toFolders = '../../..'

/** Opens `names` below `root`, following symlinks that stay inside. The caller closes the descriptor. */
export async function openInside(root: string, names: string[], flags = O_RDONLY | O_NONBLOCK): Promise<number> {
  try {
    return await openBelow(root, names, flags)
  } catch (error) {
    // An unmounted volume must not look like one whose files are gone.
    if (error instanceof NotFound && !fs.existsSync(join(root, toFolders))) {
      throw new Unavailable('the root of the volume is gone', { cause: error })
    }
    throw error
  }
}

async function openBelow(root: string, names: string[], flags: number): Promise<number> {
  const path = names.join('/')
  return translated(path || 'the vfolder', async () => {
    if (names.length <= 1) {
      const fd = await openDirectlyInside(root, names[0], flags)
      if (fd !== undefined) return fd
    }
    const location = join(root, ...names)
    if (Buffer.byteLength(location) >= maxPathBytes) return openByNames(root, names, flags)
    const fd = await open(location, flags)
    try {
      assertInside(fd, root, path)
      return fd
    } catch (error) {
      close(fd)
      throw error
    }
  })
}

/**
 * Opens what the kernel takes no path for, since `PATH_MAX` counts the volume's root and a NUL too, and for which it
 * tells none either: name by name, each in the directory before it, and through no symlink.
 */
async function openByNames(root: string, names: string[], flags: number): Promise<number> {
  let directory = new Directory(await open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
  try {
    for (const name of names.slice(0, -1)) {
      const child = await directory.child(name)
      directory.close()
      directory = child
    }
    return await open(directory.at(names.at(-1) ?? ''), flags | O_NOFOLLOW)
  } finally {
    directory.close()
  }
}

/**
 * Where only the last name could be a symlink, O_NOFOLLOW alone proves that what was opened is inside. Undefined when it
 * is a symlink: ELOOP of open(2), or ENOTDIR with O_DIRECTORY.
 */
async function openDirectlyInside(root: string, name: string | undefined, flags: number): Promise<number | undefined> {
  try {
    return await open(name === undefined ? root : `${root}/${name}`, flags | O_NOFOLLOW)
  } catch (error) {
    if (errnoOf(error) === 'ELOOP' || errnoOf(error) === 'ENOTDIR') return undefined
    throw error
  }
}

export async function openDirectory(root: string, names: string[]): Promise<Directory> {
  return new Directory(await openInside(root, names, O_RDONLY | O_DIRECTORY))
}

/** Opens a directory and creates it, and those that lead to it, where they are missing. */
export async function createDirectories(root: string, names: string[], ownership: Ownership): Promise<Directory> {
  try {
    return await openDirectory(root, names)
  } catch (error) {
    if (!(error instanceof NotFound)) throw error
  }

  let directory = await openDirectory(root, [])
  for (const [index, name] of names.entries()) {
    const parent = directory
    try {
      const path = names.slice(0, index + 1)
      await translated(path.join('/'), () => createDirectory(parent, name, ownership)).catch((error) => {
        if (errnoOf(error.cause) !== 'EEXIST') throw error
      })
      directory = await openDirectory(root, path)
    } finally {
      parent.close()
    }
  }
  return directory
}

export async function createDirectory(parent: Directory, name: string, ownership: Ownership): Promise<void> {
  await mkdir(parent.at(name))
  await ownDirectory(parent, name, ownership)
  await parent.sync()
}

/** Gives a directory the owner and the mode of what is created. */
export async function ownDirectory(parent: Directory, name: string, ownership: Ownership): Promise<void> {
  const directory = await parent.child(name)
  try {
    await setOwnership(directory.fd, ownership, ownership.directoryMode)
  } finally {
    directory.close()
  }
}

/** Sets owner and mode explicitly, since the mode given to open(2) and mkdir(2) is cut by the umask. */
export async function setOwnership(fd: number, { uid, gid }: Ownership, mode: number): Promise<void> {
  if (uid !== undefined || gid !== undefined) await fchown(fd, uid ?? -1, gid ?? -1)
  await fchmod(fd, mode)
}
