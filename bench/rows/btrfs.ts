import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { btrfs } from '../../backends/btrfs/index.ts'
import { installed } from '../debian.ts'
import { call } from '../posix.ts'
import { alternately, type Bench, type Row, seconds } from '../row.ts'
import { treeOf } from '../trees.ts'

const run = promisify(execFile)
const gibibyte = 1024 ** 3
const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

export const snapshotClone: Row = {
  name: 'btrfs-clone',
  what: 'snapshot clone of 20,000 files of 4 KiB and one of 10 GiB on Btrfs, against cp -a --reflink=auto',
  bound: { atMost: 0.5 },
  async measure(bench) {
    const { backend, newFolder, root, quiet } = await volumeOn(bench)
    const { folder: from, directory } = await newFolder()
    treeOf(directory, 20_000, 4096)
    execFileSync('fallocate', ['-l', String(10 * gibibyte), join(directory, 'large')])
    quiet()
    const options = { ...call, onProgress: () => {}, onCheckpoint: () => {} }
    return alternately(5, 's', {
      ours: async () => {
        const { folder: to } = await newFolder()
        const took = await seconds(async () => backend.clone?.(from, to, options))
        await backend.removeFolder(to, call)
        quiet()
        return took
      },
      peer: async () => {
        const to = join(root, randomUUID())
        const took = await seconds(() => run('cp', ['-a', '--reflink=auto', directory, to]))
        execFileSync('rm', ['-rf', to])
        quiet()
        return took
      },
    })
  },
}

export const nativeUsage: Row = {
  name: 'btrfs-usage',
  what: 'usage of a vfolder of 200,000 files by its quota group on Btrfs, against du -s',
  bound: { atMost: 0.5 },
  async measure(bench) {
    const { backend, newFolder, quiet } = await volumeOn(bench)
    const { folder, directory } = await newFolder()
    treeOf(directory, 200_000, 1)
    quiet()
    return alternately(5, 's', {
      ours: () => seconds(async () => backend.usage?.(folder, call)),
      peer: () => seconds(() => run('du', ['-s', directory])),
    })
  },
}

async function volumeOn(bench: Bench) {
  await installed('mkfs.btrfs', 'btrfs-progs')
  const [image, root] = [join(bench.directory, 'image'), join(bench.directory, 'btrfs')]
  writeFileSync(image, '')
  truncateSync(image, 16 * gibibyte)
  execFileSync('mkfs.btrfs', ['-q', image], { env })
  mkdirSync(root)
  execFileSync('mount', ['-o', 'loop', image, root])
  bench.cleanup(() => execFileSync('umount', [root]))
  execFileSync('btrfs', ['quota', 'enable', root], { env })

  const options = { root: join(root, 'volume') }
  const { signal } = call
  const backend = await btrfs.create({ options, log: pino({ level: 'silent' }), idleSeconds: 240, signal })
  return {
    root,
    backend,
    quiet: () => execFileSync('sync', ['-f', root]),
    async newFolder() {
      const folder = randomUUID()
      await backend.createFolder(folder, call)
      const place = await backend.mount?.(folder, undefined)
      if (place?.type !== 'path') throw new Error('a volume on a filesystem has a path')
      return { folder, directory: place.path }
    },
  }
}
