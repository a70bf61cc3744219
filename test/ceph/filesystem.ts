import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { run } from '../loop-image.ts'
import { eventually, temporaryDirectory } from '../server.ts'
import { cephDirectory, cephServer } from './index.ts'

/** A filesystem of the Ceph that all files of a test run share, mounted so many times, as on so many machines. */
export async function mountCephfs(t: Test, mounts: number): Promise<string[]> {
  await cephServer()
  const config = join(cephDirectory(), 'ceph.conf')
  await startOnce(config)
  const points: string[] = []
  while (points.length < mounts) {
    const directory = await temporaryDirectory(t)
    const point = join(directory, 'mount')
    await mkdir(point)
    run('ceph-fuse', '-c', config, '-n', 'client.admin', `--pid-file=${join(directory, 'pid')}`, point)
    t.teardown(() => eventually(() => isUnmounted(point), 10_000))
    points.push(point)
  }
  return points
}

/** A backend lets go of a mount a moment after its last use. */
function isUnmounted(point: string): boolean {
  try {
    run('umount', point)
    return true
  } catch {
    return false
  }
}

/** The first test that needs the filesystem makes it; the keeper of the cluster ends its server. */
async function startOnce(config: string): Promise<void> {
  const place = join(cephDirectory(), 'filesystem')
  const isFirst = await mkdir(place).then(
    () => true,
    () => false,
  )
  if (isFirst) {
    for (const pool of ['meta', 'data']) run('ceph', '-c', config, 'osd', 'pool', 'create', pool, '8')
    run('ceph', '-c', config, 'fs', 'new', 'fs', 'meta', 'data')
    run('ceph-mds', '-c', config, '-i', 'm')
    await eventually(() => run('ceph', '-c', config, 'mds', 'stat').includes('up:active'))
    await writeFile(join(place, 'ready'), '')
  }
  await eventually(
    () =>
      readFile(join(place, 'ready'), 'utf8').then(
        () => true,
        () => false,
      ),
    60_000,
  )
}
