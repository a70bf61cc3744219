import fs from 'node:fs'
import { NotFound, VolumeUnavailable } from '../errors.ts'
import { translateErrorsOf } from './errno.ts'
import { foldersOf, hasOwnPlaces } from './places.ts'

/**
 * Runs what makes something in the staging place of a vfolder, or among its uploads. Where each vfolder has its own,
 * they are missing together with it.
 */
export async function translateStaging<T>(root: string, what: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await translateErrorsOf(what, operation)
  } catch (error) {
    if (error instanceof VolumeUnavailable && hasOwnPlaces(root) && fs.existsSync(foldersOf(root))) {
      throw new NotFound('the vfolder does not exist', { cause: error })
    }
    throw error
  }
}
