import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { nothing } from '../backends/amount.ts'
import type { Amount } from '../backends/backend.ts'
import { usagePutRight } from '../plugins/vfolders/notices.ts'
import type { Vfolder } from '../plugins/vfolders/rows.ts'
import { applyQuota } from '../plugins/vfolders/storage-quota.ts'
import { measureSettled, putUsageRight } from '../plugins/vfolders/usage.ts'

/** How many vfolders are asked for at once. */
const page = 100

const firstWaitMilliseconds = 1000
const longestWaitMilliseconds = 10_000

interface Sync {
  counted: Amount
  drift: Amount
  /** What is being moved or deleted kept the counters from being put right. */
  unsettled: boolean
}

/** The vfolders that are ready, on all volumes or on one: by ID, after the given one. */
export async function* listReady(
  app: FastifyInstance,
  after: string,
  volume: string | undefined,
): AsyncGenerator<Vfolder> {
  let position = after
  for (;;) {
    const from = { ...(position !== '' && { after: position }), ...(volume !== undefined && { volume }) }
    const vfolders = await app.vfolders.list({ limit: page, ...from })
    for (const vfolder of vfolders) if (vfolder.state === 'ready') yield vfolder
    const last = vfolders.at(-1)
    if (last === undefined) return
    position = last.id
  }
}

/** Compares the usage counters of a vfolder with what is really stored, and puts them right. */
async function syncVfolder(app: FastifyInstance, id: string, signal: AbortSignal): Promise<Sync> {
  const vfolder = await app.vfolders.ready(id).catch(() => undefined)
  if (vfolder === undefined) return { counted: nothing, drift: nothing, unsettled: false }
  const { backend } = app.volumes.get(vfolder.volume)
  // They may be lost: by a crash right before they were set, or with a database or a storage that was restored.
  await applyQuota(app, vfolder, { signal }).catch((err) => {
    app.log.error(
      { err, folder: id, volume: vfolder.volume },
      'the limits of a vfolder could not be set on its storage',
    )
  })
  const counters = async () => (await app.vfolders.get(id)).usage
  const measure = () => measureSettled(backend, id, { counters, trash: () => app.trash.counted(id) }, signal)
  const { counted, drift, exact, unsettled } = await putUsageRight(app, id, measure, signal)
  usagePutRight.give(vfolder.volume, drift)
  if (drift.files !== 0 || drift.bytes !== 0) {
    await app.quotaWarnings.look(id)
    const fields = { folder: id, volume: vfolder.volume, drift_bytes: drift.bytes, drift_files: drift.files }
    app.log.info({ ...fields, usage_bytes: counted.bytes, usage_files: counted.files, exact }, 'usage had drifted')
  }
  return { counted, drift, unsettled }
}

/** The same, and a vfolder in which much is being moved or deleted is left to a job of its own. */
export async function syncOrLeave(app: FastifyInstance, id: string, signal: AbortSignal): Promise<Sync> {
  const sync = await syncVfolder(app, id, signal)
  if (sync.unsettled) await app.vfolders.recount(id)
  return sync
}

/** The same, at the end of what is being moved or deleted. */
export async function syncSettled(app: FastifyInstance, id: string, signal: AbortSignal): Promise<Sync> {
  for (let wait = firstWaitMilliseconds; ; wait = Math.min(wait * 2, longestWaitMilliseconds)) {
    const sync = await syncVfolder(app, id, signal)
    if (!sync.unsettled) return sync
    await sleep(wait, undefined, { signal })
  }
}
