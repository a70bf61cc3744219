import { join } from 'node:path'
import { createFuseMount } from '../../test/fuse-mount.ts'
import { installed } from '../debian.ts'
import { fileOf } from '../files.ts'
import { alternately, type Row } from '../row.ts'
import { startService } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

/** More than a mount has of anything. */
const waiting = 100

export const besideAHang: Row = {
  name: 'beside-a-hang',
  what: `signed downloads of 1000 files of 4 KiB while ${waiting} calls wait for another volume, whose mount hangs, against none`,
  bound: { atLeast: 0.9 },
  async measure(bench) {
    await installed('bindfs', 'bindfs')
    const mount = await createFuseMount({ teardown: bench.cleanup })
    await mount.mount()
    const VOLUMES = JSON.stringify({
      default: { backend: 'posix', root: join(bench.directory, 'volume') },
      shared: { backend: 'posix', root: mount.point, mount: true },
    })
    const service = await startService(bench, { VOLUMES })
    const folder = await service.createFolder()
    const directory = await service.directoryOf(folder)
    const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`)
    for (const name of names) await fileOf(join(directory, name), 4096)
    const urls = await service.signDownloads(folder, names)
    const hanging = `${service.url}/folders/${await service.createFolder('shared')}/files?recursive=true`
    const call = () => fetch(hanging, { headers: { authorization: service.authorization } }).then((res) => res.text())

    return alternately(3, 'files/s', {
      ours: async () => {
        mount.hang()
        const calls = Array.from({ length: waiting }, call)
        const rate = await requestsPerSecond(bench, urls)
        mount.answer()
        await Promise.all(calls)
        return rate
      },
      peer: () => requestsPerSecond(bench, urls),
    })
  },
}
