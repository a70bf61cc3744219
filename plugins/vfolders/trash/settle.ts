import type { FastifyInstance } from 'fastify'
import type { Amount } from '../../../backends/backend.ts'
import { type Capable, hasCapability } from '../../../backends/capabilities.ts'
import { AlreadyExists, IsADirectory, NotADirectory, NotFound } from '../../../backends/errors.ts'
import { parsePath } from '../../../backends/path.ts'
import { withRequestId } from '../../../lib/context.ts'
import { transact } from '../../storage/database/transact.ts'
import { findEntry } from '../find-entry.ts'
import * as vfolders from '../rows.ts'
import { amountInTrash } from './amount.ts'
import { finishReturn } from './places.ts'
import { forget, keep, listAbandoned, type TrashRow } from './rows.ts'

/** Longer than any storage takes to go on with a move that was broken off. */
const forgetMilliseconds = 86_400_000

/** Finds out what has become of entries whose process died, or could not tell, while it moved them. */
export async function settleAll(app: FastifyInstance, signal: AbortSignal): Promise<void> {
  for (const row of await listAbandoned(app.database, app.processes.alive())) {
    await withRequestId(() => settle(app, row, signal), row.request_id)().catch((err) => {
      // One volume that is away must not keep the others from it.
      signal.throwIfAborted()
      app.log.error({ err, folder: row.vfolder, path: row.path }, 'an entry in the trash could not be looked for')
    })
  }
}

async function settle(app: FastifyInstance, row: TrashRow, signal: AbortSignal): Promise<void> {
  const vfolder = await vfolders.find(app.database, row.vfolder)
  // With a vfolder in deletion its rows go, too.
  if (vfolder?.state !== 'ready') return
  const volume = app.volumes.all().find(({ name }) => name === vfolder.volume)
  if (volume === undefined || !hasCapability(volume.backend, 'trash')) return
  const outcome = await (row.state === 'leaving' ? arrive : giveBack)(app, volume.backend, row, signal)
  if (outcome === undefined) return
  await transact(app.database, async (trx) => {
    if (outcome.amount === undefined) await forget(trx, row.id)
    else await keep(trx, row, outcome.amount, app.database.now())
    await app.vfolders.recount(row.vfolder, trx)
  })
  const fields = { folder: row.vfolder, path: row.path, is_kept: outcome.amount !== undefined }
  app.log.info(fields, 'an entry that was on its way into or out of the trash is settled')
}

/** How much of it is in the trash; no amount: it is not there. */
interface Outcome {
  amount?: Amount
}

/**
 * Of an entry that has begun to arrive all of it is brought. One that has not is left where it is: what has its name now
 * may be another one. A storage without a step for a move may still go on with it by itself, so that its row stays.
 */
async function arrive(
  app: FastifyInstance,
  backend: Capable<'trash'>,
  row: TrashRow,
  signal: AbortSignal,
): Promise<Outcome | undefined> {
  const [place, name] = [backend.trash(row.vfolder), parsePath(row.id)]
  if ((await findEntry(backend, place, name, signal)) === undefined) {
    return row.changed_at < app.database.now() - forgetMilliseconds ? {} : undefined
  }
  await backend.move(row.vfolder, parsePath(row.path), name, { toFolder: place, signal }).catch((error) => {
    if (!(error instanceof NotFound) && !isTaken(error)) throw error
  })
  return { amount: await amountIn(app, backend, row, signal) }
}

/** What has begun to come back comes back, unless its name is taken. */
async function giveBack(
  app: FastifyInstance,
  backend: Capable<'trash'>,
  row: TrashRow,
  signal: AbortSignal,
): Promise<Outcome> {
  try {
    await finishReturn(backend, row, signal)
    return {}
  } catch (error) {
    if (!isTaken(error)) throw error
    return { amount: await amountIn(app, backend, row, signal) }
  }
}

function isTaken(error: unknown): boolean {
  return error instanceof AlreadyExists || error instanceof IsADirectory || error instanceof NotADirectory
}

async function amountIn(
  app: FastifyInstance,
  backend: Capable<'trash'>,
  row: TrashRow,
  signal: AbortSignal,
): Promise<Amount> {
  const entry = await backend.stat(backend.trash(row.vfolder), parsePath(row.id), { signal })
  return amountInTrash(backend, row, entry, app.log)
}
