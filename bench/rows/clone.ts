import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { installed } from '../debian.ts'
import { fileOf } from '../files.ts'
import { call, posixIn } from '../posix.ts'
import { alternately, type Row, seconds } from '../row.ts'
import { treeOf } from '../trees.ts'

const run = promisify(execFile)
const gibibyte = 1024 ** 3
const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

export const clone: Row = {
  name: 'clone',
  what: 'durable clone of 20,000 files of 4 KiB and one of 4 GiB on XFS, against cp -a --reflink=auto',
  bound: { atMost: 1.5 },
  async measure(bench) {
    await installed('mkfs.xfs', 'xfsprogs')
    const [image, root] = [join(bench.directory, 'image'), join(bench.directory, 'xfs')]
    writeFileSync(image, '')
    truncateSync(image, 12 * gibibyte)
    execFileSync('mkfs.xfs', ['-q', '-m', 'reflink=1', image], { env })
    mkdirSync(root)
    execFileSync('mount', ['-o', 'loop', image, root])
    bench.cleanup(() => execFileSync('umount', [root]))

    const { backend, directoryOf } = await posixIn(join(root, 'volume'))
    const newFolder = async () => {
      const folder = randomUUID()
      await backend.createFolder(folder, call)
      return folder
    }
    const from = await newFolder()
    treeOf(directoryOf(from), 20_000, 4096)
    await fileOf(join(directoryOf(from), 'large'), 4 * gibibyte)
    const quiet = () => execFileSync('sync', ['-f', root])
    quiet()
    const options = { ...call, onProgress: () => {}, onCheckpoint: () => {} }
    return alternately(5, 's', {
      ours: async () => {
        const to = await newFolder()
        const took = await seconds(() => backend.clone(from, to, options))
        await backend.removeFolder(to, call)
        quiet()
        return took
      },
      peer: async () => {
        const to = join(root, randomUUID())
        const took = await seconds(() => run('cp', ['-a', '--reflink=auto', directoryOf(from), to]))
        execFileSync('rm', ['-rf', to])
        quiet()
        return took
      },
    })
  },
}
