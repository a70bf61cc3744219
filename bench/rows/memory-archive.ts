import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileOf } from '../files.ts'
import type { Row } from '../row.ts'
import { startService } from '../service.ts'
import { sink } from '../sink.ts'

const MiB = 1024 ** 2
const entries = 1_000_000
const entriesInDirectory = 10_000

export const memoryArchive: Row = {
  name: 'memory-archive',
  what: 'a zip of a million empty files, and one of 4 GiB for a slow client and a fast one',
  bound: { belowMiB: 200 },
  async measure(bench) {
    const service = await startService(bench)
    const many = await service.createFolder()
    await makeEntries(await service.directoryOf(many))
    await sink(await service.signArchive(many, 'zip'))

    const large = await service.createFolder()
    await fileOf(join(await service.directoryOf(large), 'large'), 4096 * MiB)
    const url = await service.signArchive(large, 'zip')
    await sink(url, { bytesPerSecond: 8 * MiB, bytes: 80 * MiB })
    await sink(url)
    return { peakMiB: await service.peakMiB() }
  },
}

async function makeEntries(root: string): Promise<void> {
  for (let index = 0; index < entries; index += entriesInDirectory) {
    const directory = join(root, `directory-${index}`)
    await mkdir(directory)
    const names = Array.from({ length: entriesInDirectory }, (_, offset) => `entry-number-${index + offset}.txt`)
    for (let start = 0; start < names.length; start += 100) {
      await Promise.all(names.slice(start, start + 100).map((name) => writeFile(join(directory, name), '')))
    }
  }
}
