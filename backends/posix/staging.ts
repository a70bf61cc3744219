import { join } from 'node:path'
import type { Amount } from '../backend.ts'
import { NotFound, VolumeUnavailable } from '../errors.ts'
import { isGone, translateErrorsOf } from './errno.ts'
import { isThere, lstat, readdir } from './files.ts'
import { hasOwnPlaces, homeOf, ownStaging, ownUploads, proofOf, scopeOf } from './places.ts'

/**
 * Runs what makes something in the staging place of a vfolder, or among its uploads. Where each vfolder or scope has its
 * own, they are missing together with it.
 */
export async function translateStaging<T>(root: string, what: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await translateErrorsOf(what, operation)
  } catch (error) {
    const isShared = !hasOwnPlaces(root) && scopeOf(root) === undefined
    if (error instanceof VolumeUnavailable && !isShared && (await isThere(proofOf(root)))) {
      throw new NotFound('the vfolder does not exist', { cause: error })
    }
    throw error
  }
}

/**
 * What the files on their way into a vfolder with places of its own take on the disk. A storage that counts them as its
 * own counts too much: they are no entries yet, and room is reserved for them.
 */
export async function stagedAmount(root: string): Promise<Amount> {
  const amount = { files: 0, bytes: 0 }
  for (const place of [ownStaging, ownUploads]) {
    const directory = join(homeOf(root), place)
    for (const name of await translateErrorsOf('the staging place', () => readdir(directory))) {
      const stats = await lstat(join(directory, name)).catch((error) => {
        if (!isGone(error)) throw error
      })
      if (!stats?.isFile()) continue
      amount.files++
      amount.bytes += stats.blocks * 512
    }
  }
  return amount
}
