import { join } from 'node:path'
import { fileOf } from './files.ts'
import type { Bench, Measured } from './row.ts'
import { startService } from './service.ts'
import { requestsPerSecond } from './wrk.ts'

const durationSeconds = 2
const pairs = 5

type Variables = Record<string, string>

/** A service with as many files as `download-4k` has; gives how many of them it sends in a second of the processor. */
async function downloads(bench: Bench, directory: string, env: Variables): Promise<() => Promise<number>> {
  const service = await startService(bench, { ...env, DATA_DIR: directory })
  const folder = await service.createFolder()
  const files = await service.directoryOf(folder)
  const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`)
  for (const name of names) await fileOf(join(files, name), 4096)
  const urls = await service.signDownloads(folder, names)
  return async () => {
    const before = await service.processorSeconds()
    const rate = await requestsPerSecond(bench, urls, { durationSeconds })
    return (rate * durationSeconds) / ((await service.processorSeconds()) - before)
  }
}

/**
 * What variables cost at small downloads. Two processes of the same code differ by more than the bound, each for as long as it
 * lives: so several pairs of them.
 */
export async function compareVariants(bench: Bench, variants: { ours: Variables; peer: Variables }): Promise<Measured> {
  const rounds = []
  for (let pair = 0; pair < pairs; pair++) {
    const cleanups: (() => unknown)[] = []
    const ofPair = { directory: bench.directory, cleanup: (fn: () => unknown) => cleanups.push(fn) }
    const directory = join(bench.directory, String(pair))
    const ours = await downloads(ofPair, join(directory, 'ours'), variants.ours)
    const peer = await downloads(ofPair, join(directory, 'peer'), variants.peer)
    rounds.push(await alternately(3, { ours, peer }))
    for (const stop of cleanups.reverse()) await stop()
  }
  rounds.sort((a, b) => a.ours / a.peer - b.ours / b.peer)
  return { ...(rounds[Math.floor(pairs / 2)] ?? { ours: Number.NaN, peer: Number.NaN }), unit: 'files/s' }
}

/** The best of each, once what is run has been compiled: whatever else the machine does only takes away. */
async function alternately(rounds: number, { ours, peer }: Record<'ours' | 'peer', () => Promise<number>>) {
  const best = { ours: 0, peer: 0 }
  await peer()
  await ours()
  for (let round = 0; round < rounds; round++) {
    best.peer = Math.max(best.peer, await peer())
    best.ours = Math.max(best.ours, await ours())
  }
  return best
}
