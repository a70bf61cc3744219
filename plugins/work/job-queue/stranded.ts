import type { FastifyInstance } from 'fastify'

/** Probes ask often, and there may be many jobs. */
const rememberedMilliseconds = 5000

/** Finds the volumes that jobs wait for and no living process has. */
function createSearch({ database: db, processes, volumes }: FastifyInstance) {
  const own = volumes.all().map(({ name }) => name)

  async function findNeeded(column: 'volume' | 'source_volume'): Promise<string[]> {
    const rows = await db
      .selectFrom('jobs')
      .select(column)
      .distinct()
      .where('state', 'in', ['queued', 'running'])
      .where(column, 'not in', own)
      .execute()
    return rows.flatMap((row) => row[column] ?? [])
  }

  return async (): Promise<string[]> => {
    const needed = new Set([...(await findNeeded('volume')), ...(await findNeeded('source_volume'))])
    const others = needed.size === 0 ? [] : await processes.others()
    return [...needed].filter((name) => !others.some((other) => other.volumes.includes(name)))
  }
}

/** Jobs that wait for a volume which no living process has. */
export function createStranded(app: FastifyInstance) {
  const search = createSearch(app)
  let told: string[] = []
  let remembered: { since: number; volumes: Promise<string[]> } | undefined

  return {
    /** The volumes that they wait for, as it was a few seconds ago. */
    volumes(): Promise<string[]> {
      const now = performance.now()
      if (remembered === undefined || now - remembered.since > rememberedMilliseconds) {
        remembered = { since: now, volumes: search() }
      }
      return remembered.volumes
    },

    /** Tells the log of each: once, and again when there were no such jobs in between. */
    async tell(): Promise<void> {
      const found = await search()
      for (const volume of found.filter((name) => !told.includes(name))) {
        app.log.warn({ volume }, 'jobs wait for a process that has this volume')
      }
      told = found
    },
  }
}
