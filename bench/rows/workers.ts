import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileOf } from '../files.ts'
import { alternately, type Bench, type Row } from '../row.ts'
import { startService } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

async function urlsOf(bench: Bench, workers: number): Promise<string[]> {
  const service = await startService(bench, {
    WORKERS: String(workers),
    DATA_DIR: join(bench.directory, `data-${workers}`),
  })
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
    const [ours, peer] = [await urlsOf(bench, 2), await urlsOf(bench, 1)]
    return alternately(5, 'files/s', {
      ours: () => requestsPerSecond(bench, ours),
      peer: () => requestsPerSecond(bench, peer),
    })
  },
}
