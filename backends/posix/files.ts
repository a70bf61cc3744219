import fs, { promises } from 'node:fs'
import { promisify } from 'node:util'
import { errnoOf } from './errno.ts'
import { callsOf, hold, letGo, type MountCalls } from './mount/calls.ts'

// The system calls of a volume, but for those of threads. What is done on a guarded mount takes one of the calls of that
// mount, so that one that hangs holds no more of libuv's threads than its share.

/** What comes first, a path or a descriptor, tells where it is done. */
function counted<T extends string | number, A extends unknown[], R>(call: (target: T, ...more: A) => Promise<R>) {
  return (target: T, ...more: A): Promise<R> => {
    const calls = callsOf(target)
    return calls === undefined ? call(target, ...more) : calls.run(() => call(target, ...more))
  }
}

// Plain descriptors instead of `FileHandle`: half the cost for a small file, and a descriptor has a path under /proc.
const openFile = promisify<string, number, number | undefined, number>(fs.open)
const closeFile = promisify(fs.close)
export const fstat = counted(promisify<number, fs.Stats>(fs.fstat))
export const fsync = counted<number, [], void>(promisify(fs.fsync))
export const fdatasync = counted<number, [], void>(promisify(fs.fdatasync))
export const fchmod = counted<number, [mode: number], void>(promisify(fs.fchmod))
export const fchown = counted<number, [uid: number, gid: number], void>(promisify(fs.fchown))
export const ftruncate = counted<number, [size: number], void>(promisify(fs.ftruncate))
export const futimes = counted<number, [atime: Date, mtime: Date], void>(promisify(fs.futimes))
type Transfer = [buffer: Buffer, offset: number, length: number, position: number]
export const read = counted<number, Transfer, { bytesRead: number }>(promisify(fs.read))
export const write = counted<number, Transfer, { bytesWritten: number }>(promisify(fs.write))

export const access = counted((path: string, mode?: number) => promises.access(path, mode))
export const chmod = counted((path: string, mode: number) => promises.chmod(path, mode))
export const copyFile = counted((from: string, to: string, mode: number) => promises.copyFile(from, to, mode))
export const link = counted((path: string, name: string) => promises.link(path, name))
export const lstat = counted((path: string) => promises.lstat(path))
export const lutimes = counted((path: string, atime: Date, mtime: Date) => promises.lutimes(path, atime, mtime))
export const mkdir = counted(async (path: string, mode?: number) => void (await promises.mkdir(path, mode)))
export const readdir = counted((path: string) => promises.readdir(path))
export const readFile = counted((path: string) => promises.readFile(path, 'utf8'))
export const readlink = counted((path: string) => promises.readlink(path))
export const rename = counted((from: string, to: string) => promises.rename(from, to))
export const rmdir = counted((path: string) => promises.rmdir(path))
export const stat = counted((path: string) => promises.stat(path))
export const statfs = counted((path: string) => promises.statfs(path))
export const unlink = counted((path: string) => promises.unlink(path))
export const utimes = counted((path: string, atime: Date, mtime: Date) => promises.utimes(path, atime, mtime))
const makeSymlink = counted((path: string, target: string) => promises.symlink(target, path))

export function symlink(target: string, path: string): Promise<void> {
  return makeSymlink(path, target)
}

export function open(path: string, flags: number, mode?: number): Promise<number> {
  const calls = callsOf(path)
  if (calls === undefined) return openFile(path, flags, mode)
  return calls.run(async () => {
    const fd = await openFile(path, flags, mode)
    hold(fd, calls)
    return fd
  })
}

const closed = () => {}

/** Gives the descriptor back; there is nothing to do about an error of a file that was flushed or only read. */
export function close(fd: number): void {
  const calls = callsOf(fd)
  letGo(fd)
  if (calls === undefined) fs.close(fd, closed)
  else calls.runSurely(() => closeFile(fd))
}

/** The same in this moment, where it cannot take long. */
export function closeNow(fd: number): void {
  if (callsOf(fd) === undefined) fs.closeSync(fd)
  else close(fd)
}

/** The attributes of a file that was opened this moment are in memory, so it needs no thread but on a guarded mount. */
export function fstatOpened(fd: number): fs.Stats | Promise<fs.Stats> {
  return callsOf(fd) === undefined ? fs.fstatSync(fd) : fstat(fd)
}

/** The entries of a directory. */
export async function opendir(path: string, options: fs.OpenDirOptions = {}): Promise<AsyncIterable<fs.Dirent>> {
  const calls = callsOf(path)
  if (calls === undefined) return promises.opendir(path, options)
  return readEntries(await calls.run(() => promises.opendir(path, options)), calls)
}

async function* readEntries(directory: fs.Dir, calls: MountCalls): AsyncGenerator<fs.Dirent> {
  try {
    for (;;) {
      const entry = await calls.run(() => directory.read())
      if (entry === null) return
      yield entry
    }
  } finally {
    calls.runSurely(() => directory.close())
  }
}

/** Whose places a program takes that works on a path: of a guarded mount, its own. */
export function shareOf(path: string): object | undefined {
  return callsOf(path)
}

/** Removes a file unless it is gone already. */
export async function removeFile(path: string): Promise<void> {
  await unlink(path).catch((error) => {
    if (errnoOf(error) !== 'ENOENT') throw error
  })
}

/** Whether there is something at the path; an error that hides it counts as no. */
export function isThere(path: string, mode?: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  )
}
