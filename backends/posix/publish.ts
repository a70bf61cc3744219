import type { Stats } from 'node:fs'
import { growthOf } from '../amount.ts'
import type { Amount, WriteOptions, Written } from '../backend.ts'
import { afterChange, PreconditionFailed } from '../errors.ts'
import { createDirectories, setOwnership } from './directory.ts'
import { amountOf, toEntry, toStoredEntry } from './entry.ts'
import { errnoOf } from './errno.ts'
import { inheritAcl, keepExtended } from './extended.ts'
import { fstat, fsync, futimes, link, lstat, rename, unlink } from './files.ts'
import { keep } from './kept.ts'
import type { Place } from './layout.ts'
import { stagingOf } from './places.ts'

/** From this size on a file takes longer to free than to rename: 0.2 s for 512 MiB on ext4. */
export const largeBytes = 16 * 1024 * 1024

/** With which programs make files: where a directory has a default ACL, that says who may. */
const createdWith = 0o666

export type PublishOptions = Omit<WriteOptions, 'size'> & {
  /** Unless it replaces another file, whose mode it then has. */
  modeOfNew?: number
}

/**
 * Flushes what was staged and makes it appear by one atomic step. `fd` is a descriptor of the file; a symlink has none,
 * and neither bytes to flush nor a mode.
 */
export async function publish(
  place: Place,
  staging: string,
  fd: number | undefined,
  { signal, ifAbsent, ifMatch, mode, modeOfNew = place.ownership.fileMode, modifiedAt }: PublishOptions,
): Promise<Written> {
  const { layout, ownership, root, names } = place
  const path = names.join('/')
  if (fd !== undefined) {
    await setOwnership(fd, ownership, mode ?? modeOfNew)
    if (modifiedAt !== undefined) await futimes(fd, modifiedAt, modifiedAt)
    await fsync(fd)
  }
  signal.throwIfAborted()
  const directory = await createDirectories(root, names.slice(0, -1), ownership)
  try {
    const target = directory.at(names[names.length - 1] ?? '')
    const prepare = async (replaced?: Stats) => {
      if (fd === undefined) return
      const attributes = replaced?.isFile() ? undefined : await fstat(directory.fd)
      await keep(fd, { replaced, directory: attributes, hasMode: mode !== undefined })
      if (!ownership.extended) return
      const has = replaced?.isFile()
        ? await keepExtended(staging, target)
        : await inheritAcl(staging, directory.at('.'), mode ?? modeOfNew | createdWith)
      if (has) await fsync(fd)
    }
    const replaced = await layout.inTurn([place], { signal }, () =>
      ifAbsent ? linkNew(staging, target, prepare) : replace(staging, target, place, ifMatch, prepare),
    )
    // Nobody waits for it, and the cleanup removes what is left of it.
    if (replaced?.aside !== undefined) unlink(replaced.aside).catch(() => {})
    const stats = fd === undefined ? await lstat(target) : await fstat(fd)
    const written = { entry: toStoredEntry(path, stats), ...(replaced?.files === 1 && { replaced: replaced.bytes }) }
    await afterChange(path, growthOf(written), () => directory.sync())
    return written
  } finally {
    directory.close()
  }
}

/** link(2) fails where the target exists, which rename(2) does not. */
async function linkNew(staging: string, target: string, prepare: () => Promise<void>): Promise<undefined> {
  await prepare()
  await link(staging, target).catch(async (error) => {
    if (errnoOf(error) !== 'EEXIST' || !(await isSame(staging, target))) throw error
  })
  // The file is there; what is left of its first name is garbage.
  await unlink(staging).catch(() => {})
}

/** An answer that was lost on the network has the client ask again, and find what it made the first time. */
async function isSame(staging: string, target: string): Promise<boolean> {
  const [staged, there] = await Promise.all([lstat(staging), lstat(target)])
  return staged.dev === there.dev && staged.ino === there.ino
}

interface Replaced extends Amount {
  /** Another name of the file that is no longer there. */
  aside?: string
}

async function replace(
  staging: string,
  target: string,
  place: Place,
  ifMatch: string | undefined,
  prepare: (replaced: Stats | undefined) => Promise<void>,
): Promise<Replaced | undefined> {
  const replaced = await lstat(target).catch(() => undefined)
  if (ifMatch !== undefined && (replaced === undefined || toEntry('', replaced)?.etag !== ifMatch)) {
    throw new PreconditionFailed('the file was changed meanwhile')
  }
  await prepare(replaced)
  const aside = replaced?.isFile() && replaced.size >= largeBytes ? await setAside(target, place) : undefined
  try {
    await rename(staging, target)
  } catch (error) {
    if (aside !== undefined) await unlink(aside).catch(() => {})
    throw error
  }
  return replaced && { ...amountOf(replaced), ...(aside !== undefined && { aside }) }
}

/**
 * Gives a file one more name, so that the rename(2) that replaces its first one does not free it before it returns.
 * That changes its etag (link(2) sets the change time), which shows only where the rename then fails.
 */
async function setAside(target: string, { layout, root }: Place): Promise<string | undefined> {
  const aside = layout.newStaging(stagingOf(root))
  return link(target, aside).then(
    () => aside,
    () => undefined,
  )
}
