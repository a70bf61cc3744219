import { execFile, execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { alternately, type Row, seconds } from '../row.ts'
import { startService } from '../service.ts'
import { treeOf } from '../trees.ts'

const run = promisify(execFile)

export const copyTree: Row = {
  name: 'copy-tree',
  what: 'durable copy of a directory of 20,000 files of 4 KiB over HTTP, against cp -a --reflink=auto',
  bound: { atMost: 1.5 },
  async measure(bench) {
    const service = await startService(bench)
    const folder = await service.createFolder()
    const directory = await service.directoryOf(folder)
    treeOf(join(directory, 'tree'), 20_000, 4096)
    const clear = () => {
      rmSync(join(directory, 'copy'), { recursive: true })
      execFileSync('sync', ['-f', directory])
    }
    execFileSync('sync', ['-f', directory])
    return alternately(5, 's', {
      ours: async () => {
        const took = await seconds(() => service.copy(folder, 'tree', 'copy'))
        clear()
        return took
      },
      peer: async () => {
        const took = await seconds(() =>
          run('cp', ['-a', '--reflink=auto', join(directory, 'tree'), join(directory, 'copy')]),
        )
        clear()
        return took
      },
    })
  },
}
