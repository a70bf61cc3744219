import { join } from 'node:path'
import { fileOf } from '../files.ts'
import { alternately, type Row } from '../row.ts'
import { startService } from '../service.ts'
import { treeOf } from '../trees.ts'
import { requestsPerSecond } from '../wrk.ts'

export const usageLoad: Row = {
  name: 'usage-load',
  what: 'signed downloads of 4 KiB while a vfolder of 200,000 files is counted over and over, against without',
  bound: { atLeast: 0.8 },
  async measure(bench) {
    const service = await startService(bench)
    const [folder, large] = [await service.createFolder(), await service.createFolder()]
    const [directory, largeDirectory] = [await service.directoryOf(folder), await service.directoryOf(large)]
    const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`)
    for (const name of names) await fileOf(join(directory, name), 4096)
    const urls = await service.signDownloads(folder, names)
    treeOf(largeDirectory, 200_000, 1)
    return alternately(5, 'files/s', {
      ours: async () => {
        let enough = false
        const rate = requestsPerSecond(bench, urls).finally(() => {
          enough = true
        })
        const counting = async () => {
          while (!enough) await service.sync(large)
        }
        return (await Promise.all([rate, counting()]))[0]
      },
      peer: () => requestsPerSecond(bench, urls),
    })
  },
}
