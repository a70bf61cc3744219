import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fileOf } from '../files.ts'
import { alternately, type Row } from '../row.ts'
import { answering, freePort, start, startService } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

export const download4k: Row = {
  name: 'download-4k',
  what: 'signed downloads of 1000 files of 4 KiB, against a bare Node server',
  bound: { atLeast: 0.6 },
  async measure(bench) {
    const service = await startService(bench)
    const folder = await service.createFolder()
    const directory = await service.directoryOf(folder)
    const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`)
    for (const name of names) await fileOf(join(directory, name), 4096)
    const urls = await service.signDownloads(folder, names)

    const port = await freePort()
    start(bench, [fileURLToPath(new URL('../bare-file-server.ts', import.meta.url)), String(port), directory])
    const bare = `http://127.0.0.1:${port}`
    await answering(bare)
    return alternately(5, 'files/s', {
      ours: () => requestsPerSecond(bench, urls),
      peer: () =>
        requestsPerSecond(
          bench,
          names.map((name) => `${bare}/${name}`),
        ),
    })
  },
}
