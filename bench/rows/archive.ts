import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { installed } from '../debian.ts'
import { fileOf } from '../files.ts'
import { alternately, type Bench, type Measured, type Row, seconds } from '../row.ts'
import { startService } from '../service.ts'
import { sink } from '../sink.ts'

const run = promisify(execFile)
const KiB = 1024
const MiB = 1024 ** 2

/** 4 GiB, half of it in four files, a quarter each in a thousand and in eight thousand. */
const kinds = [
  { count: 4, bytes: 512 * MiB },
  { count: 1024, bytes: MiB },
  { count: 8192, bytes: 128 * KiB },
]
const treeMiB = 4096

export const zip: Row = {
  name: 'zip',
  what: 'a zip without compression of a tree of 4 GiB, against zip -0 -r -',
  bound: { atLeast: 2 },
  async measure(bench) {
    await installed('zip', 'zip')
    return measureArchive(bench, 'zip', 'zip -q -0 -r - .')
  },
}

export const tar: Row = {
  name: 'tar',
  what: 'a tar of a tree of 4 GiB, against tar -cf -',
  bound: { atLeast: 0.9 },
  measure: (bench) => measureArchive(bench, 'tar', 'tar -cf - .'),
}

async function measureArchive(bench: Bench, format: string, peer: string): Promise<Measured> {
  const service = await startService(bench)
  const folder = await service.createFolder()
  const directory = await service.directoryOf(folder)
  await makeTree(directory)
  const url = await service.signArchive(folder, format)
  const speed = async (work: () => Promise<unknown>) => treeMiB / (await seconds(work))
  return alternately(5, 'MiB/s', {
    ours: () => speed(() => sink(url)),
    // Through a pipe: tar does not read the files when it writes to /dev/null.
    peer: () => speed(() => run('sh', ['-c', `${peer} | cat > /dev/null`], { cwd: directory })),
  })
}

async function makeTree(root: string): Promise<void> {
  for (const [kind, { count, bytes }] of kinds.entries()) {
    for (let index = 0; index < count; index++) {
      const directory = join(root, `kind-${kind}`, `part-${Math.floor(index / 128)}`)
      if (index % 128 === 0) await mkdir(directory, { recursive: true })
      await fileOf(join(directory, `file-${index}`), bytes)
    }
  }
}
