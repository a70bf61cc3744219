import { basename, dirname, join } from 'node:path'
import type { Call, OnProgress } from '../backend.ts'
import { NotFound } from '../errors.ts'
import {
  createDirectory,
  type Directory,
  makeDirectoryInside,
  type Ownership,
  openDirectory,
  ownDirectory,
} from './directory.ts'
import { errnoOf, translateErrorsOf } from './errno.ts'
import { mkdir, readdir, rename, stat } from './files.ts'
import { kernelPathOf } from './inside.ts'
import { idOf, type Layout } from './layout.ts'
import { refuseMounts } from './mounts.ts'
import {
  hasOwnPlaces,
  homeOf,
  isOwnTrash,
  ownStaging,
  ownUploads,
  proofOf,
  removedOf,
  scopeOf,
  stagingOf,
} from './places.ts'
import { removeTrees, syncDirectory } from './remove.ts'

/** What a vfolder is on a storage that has more than directories for it, such as a subvolume. */
export interface Homes {
  /** Makes an empty one, unless it is there; several callers may at once. */
  make(location: string, call: Call): Promise<void>
  /** Frees what `make` made, with all that is in it. Nobody else knows of it any more. */
  free(location: string, call: Call & { onProgress?: OnProgress | undefined }): Promise<void>
}

export async function createFolder(
  layout: Layout,
  folder: string,
  { ownership, mode, homes }: { ownership: Ownership; mode: number; homes: Homes | undefined },
  call: Call,
): Promise<void> {
  const root = layout.folder(folder)
  const home = homeOf(root)
  const scope = scopeOf(root)
  await translateErrorsOf('the directory of the vfolders', async () => {
    if (scope !== undefined) await createScope(scope, proofOf(root), ownership)
    await layout.prepare(folder)
    // Not recursively: a volume whose root is gone, such as an unmounted one, must not be created on another disk.
    for (const directory of [dirname(dirname(home)), dirname(home)]) {
      await (scope === undefined ? makeUnlessThere(directory) : makeWay(directory, ownership))
    }
    if (hasOwnPlaces(root) && !isOwnTrash(root)) {
      await (homes?.make(home, call) ?? makeUnlessThere(home))
      for (const place of [ownStaging, ownUploads]) await makeUnlessThere(join(home, place), 0o700)
      await syncDirectory(dirname(home))
    }
    const parent = await openDirectory(dirname(root), [])
    try {
      await makeOwned(parent, basename(root), { ...ownership, directoryMode: mode })
    } finally {
      parent.close()
    }
    await syncDirectory(dirname(dirname(home)))
  })
}

/** Not in the directory that a volume should be mounted on. */
async function createScope(scope: string, proof: string, ownership: Ownership): Promise<void> {
  await stat(proof)
  await makeWay(scope, ownership)
  await syncDirectory(dirname(scope))
}

/** A directory on the way to a vfolder, in which others are to make some, too; one that is there stays as it is. */
async function makeWay(directory: string, ownership: Ownership): Promise<void> {
  const parent = await openDirectory(dirname(directory), [])
  try {
    await makeDirectoryInside(parent, basename(directory), ownership).catch((error) => {
      if (errnoOf(error) !== 'EEXIST') throw error
    })
  } finally {
    parent.close()
  }
}

async function makeOwned(parent: Directory, name: string, ownership: Ownership): Promise<void> {
  await createDirectory(parent, name, ownership).catch(async (error) => {
    if (errnoOf(error) !== 'EEXIST') throw error
    // A crash may have come between the making of the directory and these.
    await ownDirectory(parent, name, ownership)
    await parent.sync()
  })
}

async function makeUnlessThere(directory: string, mode?: number): Promise<void> {
  await mkdir(directory, mode).catch((cause) => {
    if (errnoOf(cause) !== 'EEXIST') throw cause
  })
}

/** Makes a vfolder vanish, and frees its bytes and those that an earlier call had no time for. */
export async function removeFolder(
  layout: Layout,
  folder: string,
  homes: Homes | undefined,
  { signal, onProgress }: Call & { onProgress?: OnProgress },
): Promise<void> {
  const root = layout.folder(folder)
  try {
    await layout.prepare(folder)
  } catch (error) {
    // Without its scope it is not there either.
    if (error instanceof NotFound) return
    throw error
  }
  const all = new Set([folder, layout.trashOf(folder)].map((id) => homeOf(layout.folder(id))))
  for (const home of all) await refuseMounts(kernelPathOf(home), 'the vfolder')
  await translateErrorsOf('the directory of the vfolders or the trash', async () => {
    for (const home of all) {
      try {
        await rename(home, layout.newTrash(folder))
        await syncDirectory(dirname(home))
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error
      }
    }
  })
  const removed = removedOf(root)
  const trash = await translateErrorsOf('the trash', () => readdir(removed))
  const names = trash.filter((name) => name.startsWith(`${idOf(folder)}.`))
  if (homes === undefined) await removeTrees(removed, names, { signal, onProgress, isNfs: layout.isNfs, called: '' })
  else for (const name of names) await homes.free(join(removed, name), { signal, onProgress })
  // What is still open on NFS is garbage from now on.
  if (layout.isNfs)
    for (const name of names) await rename(join(removed, name), layout.newStaging(stagingOf(root))).catch(unlessGone)
}

function unlessGone(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error
}
