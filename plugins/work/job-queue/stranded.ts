import type { FastifyInstance } from 'fastify'

/**
 * Tells of jobs that wait for a volume which no living process has: once, and again when there were none in between.
 */
export function createStrandedLog({ database: db, processes, volumes, log }: FastifyInstance) {
  const own = new Set(volumes.all().map(({ name }) => name))
  let told = new Set<string>()

  async function find(column: 'volume' | 'source_volume'): Promise<string[]> {
    const rows = await db
      .selectFrom('jobs')
      .select(column)
      .distinct()
      .where('state', 'in', ['queued', 'running'])
      .where(column, 'is not', null)
      .execute()
    return rows.flatMap((row) => row[column] ?? [])
  }

  return async (): Promise<void> => {
    const needed = [...(await find('volume')), ...(await find('source_volume'))].filter((name) => !own.has(name))
    const others = needed.length === 0 ? [] : await processes.others()
    const stranded = new Set(needed.filter((name) => !others.some((other) => other.volumes.includes(name))))
    for (const volume of stranded) {
      if (!told.has(volume)) log.warn({ volume }, 'jobs wait for a process that has this volume')
    }
    told = stranded
  }
}
