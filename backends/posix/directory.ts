import fs from 'node:fs'
import { AccessDenied, NotFound } from '../errors.ts'
import { errnoOf, translateErrors, translateErrorsOf } from './errno.ts'
import { hasDefaultAcl } from './extended.ts'
import { close, fchmod, fchown, fstat, fsync, mkdir } from './files.ts'
import { openInside, openStep, pathOf } from './inside.ts'

const { O_DIRECTORY, O_RDONLY } = fs.constants
/** Of a directory: what is made in it has its group. */
export const S_ISGID = 0o2000

/** Who owns what is created, and its modes; an absent owner is the process's. */
export interface Ownership {
  uid: number | undefined
  gid: number | undefined
  fileMode: number
  directoryMode: number
  /** Whether ACLs and extended attributes are kept and inherited. */
  extended: boolean
}

/**
 * A directory held open. Its entries are reached through the descriptor, as with openat(2), which Node does not have,
 * and so in that very directory, whatever its path names by then.
 */
export class Directory {
  readonly fd: number

  constructor(fd: number) {
    this.fd = fd
  }

  at(name: string): string {
    return `${pathOf(this.fd)}/${name}`
  }

  /** Where the kernel says that an entry of this directory is. */
  locationOf(name: string): string {
    return `${fs.readlinkSync(pathOf(this.fd))}/${name}`
  }

  /** Opens a directory in this one, unless it is a symlink. */
  async openChild(name: string): Promise<Directory> {
    return new Directory(await openStep(this.at(name)))
  }

  /** Makes changes of this directory's entries durable (fsync(2), NOTES). */
  async sync(): Promise<void> {
    await translateErrorsOf('a directory', () => fsync(this.fd))
  }

  close(): void {
    close(this.fd)
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
      await translateErrors(path.join('/'), () => makeDirectoryInside(parent, name, ownership)).catch((error) => {
        if (errnoOf(error.cause) !== 'EEXIST') throw error
      })
      directory = await openDirectory(root, path)
    } finally {
      parent.close()
    }
  }
  return directory
}

/** Creates a directory in a vfolder. One that sets the group of what is made in it passes this on (inode(7), S_ISGID). */
export async function makeDirectoryInside(parent: Directory, name: string, ownership: Ownership): Promise<void> {
  await mkdir(parent.at(name))
  const directory = await parent.openChild(name)
  try {
    const { mode } = await fstat(directory.fd)
    const inherits = (mode & S_ISGID) !== 0
    const { gid, directoryMode } = ownership
    const own = { ...ownership, gid: inherits ? undefined : gid }
    const hasAcl = ownership.extended && (await hasDefaultAcl(parent.at('.')))
    await setOwnership(directory.fd, own, hasAcl ? mode & 0o7777 : directoryMode | (mode & S_ISGID))
  } finally {
    directory.close()
  }
  await parent.sync()
}

export async function createDirectory(parent: Directory, name: string, ownership: Ownership): Promise<void> {
  await mkdir(parent.at(name))
  await ownDirectory(parent, name, ownership)
  await parent.sync()
}

/** Gives a directory the owner and the mode of what is created. */
export async function ownDirectory(parent: Directory, name: string, ownership: Ownership): Promise<void> {
  const directory = await parent.openChild(name)
  try {
    await setOwnership(directory.fd, ownership, ownership.directoryMode)
  } finally {
    directory.close()
  }
}

/**
 * Sets owner and mode explicitly, since the mode given to open(2) and mkdir(2) is cut by the umask.
 * @throws {AccessDenied} when the owner may not be set (chown(2), EPERM)
 */
export async function setOwnership(fd: number, { uid, gid }: Ownership, mode: number): Promise<void> {
  if (uid !== undefined || gid !== undefined) {
    await fchown(fd, uid ?? -1, gid ?? -1).catch((cause) => {
      if (errnoOf(cause) !== 'EPERM') throw cause
      const owner = [uid !== undefined && `uid ${uid}`, gid !== undefined && `gid ${gid}`].filter(Boolean).join(', ')
      throw new AccessDenied(`the service may not give what it makes to ${owner}: that takes CAP_CHOWN`, { cause })
    })
  }
  await fchmod(fd, mode)
}
