import { join } from 'node:path'
import { fileOf } from '../files.ts'
import { startNginx } from '../nginx.ts'
import { alternately, type Row, seconds } from '../row.ts'
import { startService } from '../service.ts'
import { sink } from '../sink.ts'

const GiB = 1024 ** 3

export const download1g: Row = {
  name: 'download-1g',
  what: 'one signed download of 1 GiB, against nginx with sendfile',
  bound: { atLeast: 1.2 },
  async measure(bench) {
    const service = await startService(bench)
    const folder = await service.createFolder()
    const directory = await service.directoryOf(folder)
    await fileOf(join(directory, 'large'), GiB)
    const [url = ''] = await service.signDownloads(folder, ['large'])
    const nginx = await startNginx(bench, directory)
    const speed = async (from: string) => 1024 / (await seconds(() => sink(from)))
    return alternately(9, 'MiB/s', { ours: () => speed(url), peer: () => speed(`${nginx}/large`) })
  },
}
