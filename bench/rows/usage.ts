import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { promisify } from 'node:util'
import { call, posixIn } from '../posix.ts'
import { alternately, type Row, seconds } from '../row.ts'
import { treeOf } from '../trees.ts'

const run = promisify(execFile)

export const usage: Row = {
  name: 'usage',
  what: 'usage of a vfolder of 200,000 files, against du -s',
  bound: { atMost: 1.3 },
  async measure(bench) {
    const { backend, directoryOf } = await posixIn(bench.directory)
    const folder = randomUUID()
    await backend.createFolder(folder, call)
    treeOf(directoryOf(folder), 200_000, 1)
    return alternately(5, 's', {
      ours: () => seconds(() => backend.count(folder, call)),
      peer: () => seconds(() => run('du', ['-s', directoryOf(folder)])),
    })
  },
}
