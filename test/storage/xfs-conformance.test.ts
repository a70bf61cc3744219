import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { conformance } from '../../backends/conformance/index.ts'
import { xfs } from '../../backends/xfs/index.ts'
import { mountImage } from '../loop-image.ts'
import { call } from '../posix.ts'
import { searchPath } from '../tools.ts'
import { countingNumbers, fakeXfsQuota } from '../xfs-quota.ts'

/** Of a filesystem that keeps the limits of projects; without it the kernel's XFS is used, and what needs limits left out. */
const { XFS_ROOT } = process.env

t.test('xfs', async (t) => {
  const root = XFS_ROOT ?? join(await mountImage(t, ['mkfs.xfs', '-q'], 400), 'the root')
  const { program } = XFS_ROOT === undefined ? await fakeXfsQuota(t) : { program: ['xfs_quota'] }
  const numbers = countingNumbers()
  const log = pino({ level: 'silent' })
  const open = async () => {
    const { quota, ...backend } = await xfs.create({
      options: { root, program },
      log,
      idleSeconds: 240,
      numbers,
      ...call,
    })
    return XFS_ROOT === undefined ? backend : { ...backend, quota }
  }
  for (const { name, run } of await conformance(open, { pageEntries: 100 })) t.test(name, run)
  if (XFS_ROOT === undefined) return
  t.test('what is left of its projects is nothing', async (t) => {
    const report = execFileSync('xfs_quota', ['-x', '-c', 'report -p -n -N -b -i -L 1000000', root], {
      encoding: 'utf8',
      env: { PATH: searchPath },
    })
    for (const line of report.split('\n').filter(Boolean)) t.match(line, /^#\d+ +0 +0 +0 .* 0 +0 +0 /)
  })
})
