import { join } from 'node:path'
import { nothing, sum } from '../amount.ts'
import type { Amount, Call } from '../backend.ts'
import { readStorageTime } from './clock.ts'
import { isGone, translateErrorsOf } from './errno.ts'
import { lstat, readdir } from './files.ts'
import { listFolders, listScopes } from './identity.ts'
import type { Layout } from './layout.ts'
import { ownName, ownStaging, stagingOf } from './places.ts'
import { removeTrees } from './remove.ts'

/**
 * Frees staged bytes that were not written to for `idleSeconds`: a live writer writes more often than that, since an
 * idle connection is cut sooner. The trash is not garbage: the job that removes a vfolder goes on until its bytes are
 * free.
 */
export async function collectGarbage(
  layout: Layout,
  { idleSeconds, signal }: Call & { idleSeconds: number },
): Promise<Amount> {
  const oldest = (await readStorageTime(layout)) - idleSeconds * 1000
  const failures: unknown[] = []
  let freed = nothing
  for await (const place of stagingPlaces(layout, signal)) {
    const options = { signal, isNfs: layout.isNfs }
    freed = sum(freed, await removeMost(place, await idleSince(oldest, place), options, failures))
  }
  if (failures.length > 0) throw failures[0]
  return freed
}

/** Removes all trees that can be removed, and adds to `failures` why others cannot. */
async function removeMost(
  place: string,
  names: string[],
  options: { signal: AbortSignal; isNfs: boolean },
  failures: unknown[],
): Promise<Amount> {
  try {
    return await removeTrees(place, names, options)
  } catch (error) {
    options.signal.throwIfAborted()
    let freed = nothing
    if (names.length === 1) failures.push(error)
    else for (const name of names) freed = sum(freed, await removeMost(place, [name], options, failures))
    return freed
  }
}

async function* stagingPlaces(layout: Layout, signal: AbortSignal): AsyncGenerator<string> {
  yield layout.staging
  if (layout.byScope) for (const scope of await listScopes(layout)) yield join(scope, ownName, ownStaging)
  if (!layout.ownPlaces) return
  for await (const folder of listFolders(layout, { signal })) yield stagingOf(layout.folder(folder))
}

async function idleSince(oldest: number, place: string): Promise<string[]> {
  const idle: string[] = []
  for (const name of await namesIn(place)) {
    const stats = await lstat(join(place, name)).catch(() => undefined)
    // Not the modification time: a file that is about to appear may have been given that of its source.
    if (stats !== undefined && stats.ctimeMs < oldest) idle.push(name)
  }
  return idle
}

/** A vfolder may be removed meanwhile, or not be whole yet. */
async function namesIn(place: string): Promise<string[]> {
  return translateErrorsOf('the staging place', () =>
    readdir(place).catch((error) => {
      if (isGone(error)) return []
      throw error
    }),
  )
}
