import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { call, posixIn } from '../posix.ts'
import { alternately, type Row, seconds } from '../row.ts'
import { treeOf } from '../trees.ts'

const run = promisify(execFile)

export const deletion: Row = {
  name: 'delete',
  what: 'removal of a vfolder of 200,000 files, against rm -rf',
  bound: { atMost: 1.3 },
  async measure(bench) {
    const { backend, directoryOf } = await posixIn(join(bench.directory, 'volume'))
    const quiet = () => execFileSync('sync', ['-f', bench.directory])
    return alternately(1, 's', {
      ours: async () => {
        const folder = randomUUID()
        await backend.createFolder(folder, call)
        treeOf(directoryOf(folder), 200_000, 1)
        quiet()
        return seconds(() => backend.removeFolder(folder, call))
      },
      peer: async () => {
        const tree = join(bench.directory, randomUUID())
        treeOf(tree, 200_000, 1)
        quiet()
        return seconds(() => run('rm', ['-rf', tree]))
      },
    })
  },
}
