import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { add, amountOf, difference, isNothing, nothing, sum } from '../../backends/amount.ts'
import type { Amount, Backend, ListOptions } from '../../backends/backend.ts'
import type { Work } from './quotas/index.ts'
import { type Counters, findCounters, setUsage, vfolderNotFound } from './rows.ts'

/** Longer than a process keeps room for small files that may follow. */
const restMilliseconds = 100

/** How often a vfolder whose usage changes during the count is counted again. */
const counts = 3

type Count = () => Promise<Amount>

/**
 * What a vfolder really has: what the storage says where it says it, and the rest by looking at every file. The storage's
 * word has what is in the trash in it.
 */
export async function measureUsage(
  backend: Backend,
  folder: string,
  trash: Count,
  signal: AbortSignal,
): Promise<Amount> {
  const { bytes, files } = (await backend.usage?.(folder, { signal })) ?? {}
  if (bytes !== undefined && files !== undefined) return { bytes, files }
  const counted = sum(await countFiles(backend, folder, signal), await trash())
  return { ...counted, ...(bytes !== undefined && { bytes }) }
}

/** The same, and when it is not what is counted, only once the storage knows of all that had happened before. */
export async function measureSettled(
  backend: Backend,
  folder: string,
  { counters, trash }: { counters: Count; trash: Count },
  signal: AbortSignal,
): Promise<Amount> {
  const usage = await counters()
  const measured = await measureUsage(backend, folder, trash, signal)
  const { usageDelaySeconds = 0 } = backend.limits
  if (usageDelaySeconds === 0 || isNothing(difference(measured, usage))) return measured
  await sleep(usageDelaySeconds * 1000, undefined, { signal })
  return measureUsage(backend, folder, trash, signal)
}

/** Counts the files of a vfolder one by one. */
export async function countFiles(backend: Backend, folder: string, signal: AbortSignal): Promise<Amount> {
  return backend.count === undefined ? countEntries(backend, folder, { signal }) : backend.count(folder, { signal })
}

/** Counts what is in a directory, or in the whole vfolder. */
export async function countEntries(
  backend: Backend,
  folder: string,
  options: Pick<ListOptions, 'path' | 'signal'>,
): Promise<Amount> {
  const total = { files: 0, bytes: 0 }
  for await (const entry of backend.list(folder, { ...options, recursive: true })) add(total, amountOf(entry))
  return total
}

export interface Sync {
  counted: Amount
  /** By how much the counters were off. */
  drift: Amount
  /** Nothing changed during the count. */
  exact: boolean
  /** What is being moved or deleted could be any part of the difference: it is to be counted again at its end. */
  unsettled: boolean
}

/**
 * Sets the counters of a vfolder to what is counted. The count may or may not include a change that happens meanwhile,
 * so the vfolder is counted again. If it never rests, a difference that the changes alone can explain changes nothing.
 * @throws {Problem} `vfolder_not_found` when it is gone meanwhile
 */
export async function putUsageRight(
  app: FastifyInstance,
  folder: string,
  count: () => Promise<Amount>,
  signal: AbortSignal,
): Promise<Sync> {
  await app.quotas.rest(folder)
  let before = await readCounters(app, folder)
  for (let attempt = 1; ; attempt++) {
    const counted = await count()
    const after = await readCounters(app, folder)
    const rested = before.work === 'none' && after.work === 'none' && before.revision === after.revision
    if (rested && (await setUsage(app.database, folder, counted, after.revision))) {
      return { counted, drift: difference(counted, after.usage), exact: true, unsettled: false }
    }
    if (attempt === counts) {
      const unsettled = before.work === 'unbounded' || after.work === 'unbounded'
      if (unsettled || isBetween(before, counted, after)) {
        // What a crash left reserved would explain what it left uncounted.
        if (await app.quotas.endOfTheDead(folder, signal)) return putUsageRight(app, folder, count, signal)
        return { counted, drift: nothing, exact: false, unsettled }
      }
      if (!(await setUsage(app.database, folder, counted))) throw vfolderNotFound(folder)
      return { counted, drift: difference(counted, after.usage), exact: false, unsettled }
    }
    if (after.work !== 'none') await sleep(restMilliseconds, undefined, { signal })
    before = after
  }
}

/** In this order: a reservation that ends in between changes the revision, so the count does not stand. */
async function readCounters({ database, quotas }: FastifyInstance, folder: string): Promise<Counters & { work: Work }> {
  const counters = await findCounters(database, folder)
  if (counters === undefined) throw vfolderNotFound(folder)
  return { ...counters, work: await quotas.workIn(folder) }
}

function isBetween(before: Counters, counted: Amount, after: Counters): boolean {
  return (['files', 'bytes'] as const).every((unit) => {
    const least = Math.min(before.usage[unit], after.usage[unit])
    const most = Math.max(before.usage[unit] + before.reserved[unit], after.usage[unit] + after.reserved[unit])
    return counted[unit] >= least && counted[unit] <= most
  })
}
