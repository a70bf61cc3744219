import fs from 'node:fs'
import { AccessDenied, EntryAccessDenied, NotFound, OutsideFolder } from '../errors.ts'
import { maxPathBytes } from '../path.ts'
import { descriptorIn, pathOf } from './descriptors.ts'
import { errnoOf, translateErrors, unmounted } from './errno.ts'
import { close, fstatOpened, isThere, lstat, open } from './files.ts'
import { proofOf, removedOf, stagingOf } from './places.ts'

export { pathOf } from './descriptors.ts'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, X_OK } = fs.constants

// Every entry of a vfolder is opened here. Users may swap what leads to it at any moment, so a check beforehand decides
// nothing: the entry is opened first, and then the kernel is asked where that is. Each way is here twice, for the event
// loop and, with synchronous system calls, for threads; test/storage/inside.test.ts holds both to the same.

const oneStep = O_RDONLY | O_DIRECTORY | O_NOFOLLOW

/** Opens a directory whose path is that of an open one and a name, unless it is a symlink. */
export function openStep(location: string): Promise<number> {
  return open(location, oneStep)
}

export function openStepSync(location: string | Buffer): number {
  return fs.openSync(location, oneStep)
}

/** Opens `names` below `root`, following symlinks that stay inside. The caller closes the descriptor. */
export async function openInside(root: string, names: string[], flags = O_RDONLY | O_NONBLOCK): Promise<number> {
  try {
    return await translateErrors(names.join('/') || 'the vfolder', () => openBelow(root, names, flags))
  } catch (error) {
    // An unmounted volume must not look like one whose files are gone.
    if (error instanceof NotFound && !(await isThere(proofOf(root)))) {
      throw unmounted(error)
    }
    if (error instanceof EntryAccessDenied && !(await isThere(root, X_OK))) {
      throw new AccessDenied('the storage denies access to the directory of the vfolders', { cause: error })
    }
    throw error
  }
}

async function openBelow(root: string, names: string[], flags: number): Promise<number> {
  const location = locate(root, names)
  if (isTooLong(location)) return openByNames(root, names, flags)
  if (isDirect(names)) {
    try {
      return await open(location, flags | O_NOFOLLOW)
    } catch (error) {
      if (!leadsOn(error, flags)) throw error
    }
  }
  const fd = await open(location, flags)
  const found = locationWithin(fd, root)
  if (found.isInside) return fd
  close(fd)
  throw toOutsideFolder(names, found.location, root, await isThere(root))
}

/**
 * The same as `openInside`, but leaves system errors as they are: others lose their class on the way out of a thread.
 */
export function openInsideSync(root: string, names: string[], flags = O_RDONLY | O_NONBLOCK): number {
  const location = locate(root, names)
  if (isTooLong(location)) return openByNamesSync(root, names, flags)
  if (isDirect(names)) {
    try {
      return fs.openSync(location, flags | O_NOFOLLOW)
    } catch (error) {
      if (!leadsOn(error, flags)) throw error
    }
  }
  const fd = fs.openSync(location, flags)
  const found = locationWithin(fd, root)
  if (found.isInside) return fd
  fs.closeSync(fd)
  throw toOutsideFolder(names, found.location, root, fs.existsSync(root))
}

/**
 * Opens an entry whose path is too long for the kernel, since `PATH_MAX` counts the volume's root and a NUL too: name
 * by name, each in the directory before it, and through no symlink. The kernel tells no path for it either.
 */
async function openByNames(root: string, names: string[], flags: number): Promise<number> {
  let directory = await openStep(root)
  try {
    for (const name of names.slice(0, -1)) {
      const child = await openStep(`${pathOf(directory)}/${name}`)
      close(directory)
      directory = child
    }
    return await open(`${pathOf(directory)}/${names.at(-1)}`, flags | O_NOFOLLOW)
  } finally {
    close(directory)
  }
}

function openByNamesSync(root: string, names: string[], flags: number): number {
  let directory = openStepSync(root)
  try {
    for (const name of names.slice(0, -1)) {
      const child = openStepSync(`${pathOf(directory)}/${name}`)
      fs.closeSync(directory)
      directory = child
    }
    return fs.openSync(`${pathOf(directory)}/${names.at(-1)}`, flags | O_NOFOLLOW)
  } finally {
    fs.closeSync(directory)
  }
}

/** Only names lead down. */
function locate(root: string, names: string[]): string {
  if (names.includes('..')) throw outsideFolder(names)
  return [root, ...names].join('/')
}

function isTooLong(location: string): boolean {
  return Buffer.byteLength(kernelPathOf(location)) >= maxPathBytes
}

/** Where only the last name could be a symlink, O_NOFOLLOW alone proves that what was opened is inside. */
function isDirect(names: string[]): boolean {
  return names.length <= 1
}

/**
 * Whether an entry that could not be opened may be a symlink, to be followed: ELOOP of open(2), or ENOTDIR with
 * O_DIRECTORY.
 */
function leadsOn(error: unknown, flags: number): boolean {
  return (flags & O_NOFOLLOW) === 0 && ['ELOOP', 'ENOTDIR'].includes(errnoOf(error) ?? '')
}

/**
 * Where the kernel finds a path: of one that leads through the descriptor of a mount, below the place where that is
 * mounted, or below nothing once it is not.
 */
export function kernelPathOf(path: string): string {
  const fd = descriptorIn(path)
  if (fd === undefined) return path
  const start = fs.readlinkSync(pathOf(fd))
  return (start === '/' ? '' : start) + path.slice(pathOf(fd).length)
}

/** Where the host finds a path, if it does: what is on a mount that was taken away is nowhere, though it is still open. */
export function hostPathOf(path: string): string | undefined {
  const fd = descriptorIn(path)
  return fd !== undefined && fs.readlinkSync(pathOf(fd)) === '/' ? undefined : kernelPathOf(path)
}

/**
 * Tells whether an open file or directory is inside `root`, wherever symlinks led on the way. readlink of a descriptor
 * is answered from memory, so it is done without a trip to the thread pool.
 */
function locationWithin(fd: number, root: string): { location: string; isInside: boolean } {
  const location = fs.readlinkSync(pathOf(fd))
  const folder = kernelPathOf(root)
  return { location, isInside: location === folder || location.startsWith(`${folder}/`) }
}

function toOutsideFolder(names: string[], location: string, root: string, rootExists: boolean): Error {
  // It, or the vfolder, was removed after the open: what is removed moves away first.
  if (!rootExists || isRemoved(location, root)) return new NotFound(`${names.join('/')} does not exist`)
  return outsideFolder(names)
}

/** Whether it is in one of the places where what is removed waits for it; see `Layout`. */
function isRemoved(location: string, root: string): boolean {
  const folder = kernelPathOf(root)
  const places = [stagingOf(folder), removedOf(folder)]
  return places.some((place) => location.startsWith(`${place}/`))
}

function outsideFolder(names: string[]): OutsideFolder {
  return new OutsideFolder(`${names.join('/')} leads out of the vfolder`)
}

/** Whether no symlink led to what was opened at `location`, and nobody has moved it since. */
export function isAt(fd: number, location: string): boolean {
  return fs.readlinkSync(pathOf(fd)) === kernelPathOf(location)
}

/** The name by which an open file is found inside `root`; undefined when that leads to another file or nowhere by now. */
export async function locationOf(fd: number, root: string): Promise<string | undefined> {
  const location = fs.readlinkSync(pathOf(fd))
  const folder = hostPathOf(root)
  if (folder === undefined || !location.startsWith(`${folder}/`)) return undefined
  const { dev, ino } = await fstatOpened(fd)
  const named = await lstat(root + location.slice(folder.length)).catch(() => undefined)
  return named?.dev === dev && named.ino === ino ? location : undefined
}
