import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileOf } from '../files.ts'
import { startPostgres } from '../postgres.ts'
import { alternately, type Bench, type Measured, type Row } from '../row.ts'
import { startService } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

/** Of files of a service that is one of several. */
async function urlsOf(bench: Bench, name: string, variables: NodeJS.ProcessEnv): Promise<string[]> {
  const service = await startService(bench, { DATA_DIR: join(bench.directory, name), ...variables })
  const folder = await service.createFolder()
  const directory = await service.directoryOf(folder)
  const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`)
  for (const name of names) await fileOf(join(directory, name), 4096)
  return service.signDownloads(folder, names)
}

const cpus = availableParallelism()

export const workers: Row = {
  name: 'workers',
  what: `signed downloads of 4 KiB from two workers, against one process, ${cpus < 3 ? 'all on the two CPUs that wrk uses too' : 'with a CPU for wrk'}`,
  bound: { atLeast: cpus < 3 ? 1.1 : 1.6 },
  measure: async (bench) => {
    const [ours, peer] = [await urlsOf(bench, 'two', { WORKERS: '2' }), await urlsOf(bench, 'one', { WORKERS: '1' })]
    return compare(bench, ours, peer)
  },
}

export const download4kPostgres: Row = {
  name: 'download-4k-postgres',
  what: 'signed downloads of 4 KiB with the state in PostgreSQL, against the same with SQLite',
  bound: { atLeast: 0.85 },
  measure: async (bench) => {
    const ours = await urlsOf(bench, 'postgres', { DATABASE_URL: await startPostgres(bench) })
    return compare(bench, ours, await urlsOf(bench, 'sqlite', {}))
  },
}

function compare(bench: Bench, ours: string[], peer: string[]): Promise<Measured> {
  return alternately(5, 'files/s', {
    ours: () => requestsPerSecond(bench, ours),
    peer: () => requestsPerSecond(bench, peer),
  })
}
