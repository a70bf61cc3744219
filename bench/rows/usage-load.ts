import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fileOf } from '../files.ts'
import { alternately, type Row } from '../row.ts'
import { start, startService, stop } from '../service.ts'
import { treeOf } from '../trees.ts'
import { requestsPerSecond } from '../wrk.ts'

export const usageLoad: Row = {
  name: 'usage-load',
  what: 'signed downloads of 4 KiB while a vfolder of 200,000 files is counted over and over, against without',
  bound: { atLeast: 0.8 },
  async measure(bench) {
    const service = await startService(bench)
    const [folder, large] = [await service.createFolder(), await service.createFolder()]
    const directory = await service.directoryOf(folder)
    const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`)
    for (const name of names) await fileOf(join(directory, name), 4096)
    treeOf(await service.directoryOf(large), 200_000, 1)
    const urls = await service.signDownloads(folder, names)
    const script = fileURLToPath(new URL('../walk-forever.ts', import.meta.url))
    return alternately(5, 'files/s', {
      ours: async () => {
        const walks = start(bench, [script, join(bench.directory, 'data/volumes/default'), large])
        const rate = await requestsPerSecond(bench, urls)
        await stop(walks)
        return rate
      },
      peer: () => requestsPerSecond(bench, urls),
    })
  },
}
