import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { isNothing } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import { type Counters, find, findCounters, setUsage } from '../rows.ts'

/** Refusals in a row share an answer for so long. */
const answerMilliseconds = 1000
const timeoutMilliseconds = 30_000
/** How often the storage is asked again when the counters change meanwhile. */
const asks = 3

type Services = Pick<FastifyInstance, 'database' | 'volumes' | 'log'>

/**
 * What users write and remove past the service counts at once where the storage tells the usage in constant time: it is
 * asked before a reservation is refused by the counters.
 */
export function createStorageUsage(app: Services) {
  const answers = new Map<string, Promise<boolean>>()

  /** Puts the counters right. @returns whether there is more room than they said; not so where the storage is silent */
  function ask(vfolder: string): Promise<boolean> {
    const known = answers.get(vfolder)
    if (known !== undefined) return known
    const answer = askStorage(app, vfolder).catch((err) => {
      app.log.warn({ err, folder: vfolder }, 'the storage did not tell the usage of a vfolder')
      return false
    })
    answers.set(vfolder, answer)
    answer.then(() => setTimeout(() => answers.delete(vfolder), answerMilliseconds).unref())
    return answer
  }

  return {
    ask,

    /** Takes room, and once more when the storage knows of more of it than the counters. */
    async asking<T>(vfolder: string, take: () => Promise<T>): Promise<T> {
      try {
        return await take()
      } catch (error) {
        if (!(error instanceof Problem) || error.code !== 'quota_exceeded' || !(await ask(vfolder))) throw error
        return take()
      }
    },
  }
}

async function askStorage({ database, volumes, log }: Services, id: string): Promise<boolean> {
  const vfolder = await find(database, id)
  if (vfolder?.state !== 'ready') return false
  const { backend } = volumes.get(vfolder.volume)
  if (backend.usage === undefined) return false
  const { usageDelaySeconds = 0 } = backend.limits
  const signal = AbortSignal.timeout(timeoutMilliseconds)
  for (let attempt = 0; attempt < asks; attempt++) {
    const counters = await findCounters(database, id)
    if (counters === undefined) return false
    let told = { ...counters.usage, ...(await backend.usage(id, { signal })) }
    if (isLess(told, counters.usage) && usageDelaySeconds > 0) {
      // It may not know yet what was written a moment ago.
      await sleep(usageDelaySeconds * 1000)
      told = { ...counters.usage, ...(await backend.usage(id, { signal })) }
    }
    if (!mayTake(told, counters)) return false
    if (!(await setUsage(database, id, told, counters.revision))) continue
    const fields = { folder: id, volume: vfolder.volume, usage_bytes: told.bytes, usage_files: told.files }
    log.info(fields, 'usage taken from the storage')
    return isLess(told, counters.usage)
  }
  return false
}

/**
 * What is being written counts for the storage and is reserved too. So while something is, the counters only go down:
 * they may be too high then, but refuse nothing without asking again.
 */
function mayTake(told: Amount, { usage, reserved }: Counters): boolean {
  if (told.bytes === usage.bytes && told.files === usage.files) return false
  return isNothing(reserved) || isLess(told, usage)
}

function isLess(told: Amount, counted: Amount): boolean {
  return told.bytes < counted.bytes || told.files < counted.files
}
