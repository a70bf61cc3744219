import type { Stats } from 'node:fs'
import { lstat, opendir, rename, rmdir, unlink } from 'node:fs/promises'
import type { Amount, RemoveOptions } from '../backend.ts'
import { type Directory, openDirectory } from './directory.ts'
import { isGone, translated } from './errno.ts'
import type { Layout } from './layout.ts'

/** Removals under way at once in one directory: enough for the thread pool. */
const removalsAtOnce = 16

export async function removeEntry(
  layout: Layout,
  root: string,
  names: string[],
  { recursive, signal }: RemoveOptions,
): Promise<Amount> {
  const parent = await openDirectory(root, names.slice(0, -1))
  const target = parent.at(names[names.length - 1] ?? '')
  try {
    return await translated(names.join('/'), async () => {
      const stats = await lstat(target)
      if (!stats.isDirectory()) {
        await unlink(target)
        await parent.sync()
        return counted(stats)
      }
      if (!recursive) {
        await rmdir(target)
        await parent.sync()
        return { files: 0, bytes: 0 }
      }
      const staging = layout.newStaging()
      await rename(target, staging)
      await parent.sync()
      return removeTree(staging, signal)
    })
  } finally {
    parent.close()
  }
}

/** Removes a file or a tree that nobody else can see any more, and counts what was in it. */
export async function removeTree(path: string, signal: AbortSignal): Promise<Amount> {
  const slash = path.lastIndexOf('/')
  const parent = await openDirectory(path.slice(0, slash), [])
  const removed = { files: 0, bytes: 0 }
  try {
    await removeChild(parent, path.slice(slash + 1), removed, signal)
  } finally {
    parent.close()
  }
  return removed
}

// Every step goes through an open directory and follows no symlink: whoever still holds a directory of the tree open
// could otherwise put a symlink in the way and have something else removed.
async function removeChild(parent: Directory, name: string, removed: Amount, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  await ignoringGone(async () => {
    const stats = await lstat(parent.at(name))
    if (!stats.isDirectory()) {
      await unlink(parent.at(name))
      add(removed, counted(stats))
      return
    }
    const directory = await parent.child(name)
    try {
      await removeContents(directory, removed, signal)
    } finally {
      directory.close()
    }
    await rmdir(parent.at(name))
  })
}

async function removeContents(directory: Directory, removed: Amount, signal: AbortSignal): Promise<void> {
  let window: Promise<void>[] = []
  const directories: string[] = []
  try {
    for await (const dirent of await opendir(directory.at('.'), { bufferSize: 1024 })) {
      // One directory at a time, so that the depth of the tree, not its breadth, bounds the open descriptors.
      if (dirent.isDirectory()) directories.push(dirent.name)
      else window.push(removeChild(directory, dirent.name, removed, signal))
      if (window.length >= removalsAtOnce) {
        await Promise.all(window)
        window = []
      }
    }
  } finally {
    await Promise.allSettled(window)
  }
  await Promise.all(window)
  for (const name of directories) await removeChild(directory, name, removed, signal)
}

function counted(stats: Stats): Amount {
  return { files: 1, bytes: stats.isFile() ? stats.size : 0 }
}

export function add(total: Amount, part: Amount): void {
  total.files += part.files
  total.bytes += part.bytes
}

async function ignoringGone(operation: () => Promise<void>): Promise<void> {
  try {
    await operation()
  } catch (error) {
    if (!isGone(error)) throw error
  }
}
