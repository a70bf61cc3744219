import fs from 'node:fs'
import { S_ISGID } from './directory.ts'
import { errnoOf } from './errno.ts'
import { fchmod, fchown, fstat, fsync } from './files.ts'

// A file is made in the staging place and takes its name by rename(2). So it is another one than the file that it
// replaces, and the kernel has not seen in which directory it is going to be: what users expect to stay is put on it
// here. Each way is here twice, for the event loop and, with synchronous system calls, for threads.

/** Without the bits that a write by another than the owner takes away as well (inode(7)). */
const keptBits = 0o1777

/** What a file is to have; an absent mode is the one that it has. */
interface Kept {
  uid: number
  gid: number
  mode: number | undefined
}

export interface Appearing {
  /** What has the name by now. */
  replaced: fs.Stats | undefined
  /** Of the directory in which the file appears; needed where it replaces none. */
  directory: Pick<fs.Stats, 'gid' | 'mode'> | undefined
  /** Whether the mode of the file was asked for, and is not that of what it replaces. */
  hasMode: boolean
}

/** Gives a staged file what it keeps of the one that it replaces, or has by its directory, as far as that is allowed. */
export async function keep(fd: number, appearing: Appearing): Promise<void> {
  if (!keepsAnything(appearing)) return
  const staged = await fstat(fd)
  const kept = keptOf(staged, appearing)
  if (isSame(staged, kept)) return
  if (!isOwnedAlike(staged, kept)) {
    const mayGive = await isPermitted(fchown(fd, kept.uid, kept.gid))
    if (!mayGive) await isPermitted(fchown(fd, -1, kept.gid))
  }
  const { gid } = await fstat(fd)
  if (kept.mode !== undefined) await fchmod(fd, modeWith(kept.mode, gid === kept.gid))
  await fsync(fd)
}

async function isPermitted(change: Promise<void>): Promise<boolean> {
  return change.then(() => true, refused)
}

export function keepSync(fd: number, appearing: Appearing): void {
  if (!keepsAnything(appearing)) return
  const staged = fs.fstatSync(fd)
  const kept = keptOf(staged, appearing)
  if (isSame(staged, kept)) return
  if (!isOwnedAlike(staged, kept)) {
    const mayGive = isPermittedSync(() => fs.fchownSync(fd, kept.uid, kept.gid))
    if (!mayGive) isPermittedSync(() => fs.fchownSync(fd, -1, kept.gid))
  }
  const { gid } = fs.fstatSync(fd)
  if (kept.mode !== undefined) fs.fchmodSync(fd, modeWith(kept.mode, gid === kept.gid))
  fs.fsyncSync(fd)
}

function isPermittedSync(change: () => void): boolean {
  try {
    change()
    return true
  } catch (error) {
    return refused(error)
  }
}

/** Only root may give files away, and only members of a group may give it files (chown(2)). */
function refused(error: unknown): boolean {
  if (errnoOf(error) !== 'EPERM') throw error
  return false
}

function keepsAnything({ replaced, directory }: Appearing): boolean {
  return replaced?.isFile() || ((directory?.mode ?? 0) & S_ISGID) !== 0
}

function keptOf(staged: fs.Stats, { replaced, directory, hasMode }: Appearing): Kept {
  if (!replaced?.isFile()) return { uid: staged.uid, gid: directory?.gid ?? staged.gid, mode: undefined }
  return { uid: replaced.uid, gid: replaced.gid, mode: hasMode ? undefined : replaced.mode & keptBits }
}

function isSame(staged: fs.Stats, kept: Kept): boolean {
  return isOwnedAlike(staged, kept) && (kept.mode === undefined || (staged.mode & 0o7777) === kept.mode)
}

function isOwnedAlike(staged: fs.Stats, kept: Kept): boolean {
  return staged.uid === kept.uid && staged.gid === kept.gid
}

/** What was for a group that the file could not be given is not for another one, which has what all others have. */
function modeWith(mode: number, hasGroup: boolean): number {
  return hasGroup ? mode : (mode & ~0o070) | ((mode & 0o007) << 3)
}
