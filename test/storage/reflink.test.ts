import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { call, posixIn } from '../posix.ts'
import { temporaryDirectory } from '../server.ts'
import { needing } from '../tools.ts'

const megabyte = 1024 * 1024
const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

for (const { name, mkfs } of [
  { name: 'xfs', mkfs: ['mkfs.xfs', '-q', '-m', 'reflink=1'] },
  { name: 'btrfs', mkfs: ['mkfs.btrfs', '-q'] },
] as const) {
  t.test(
    `a clone on ${name} shares the blocks`,
    needing(mkfs[0], 'mount', 'umount', 'losetup', 'loop devices'),
    async (t) => {
      const directory = await temporaryDirectory(t)
      const [image, root] = [join(directory, 'image'), join(directory, 'root')]
      fs.writeFileSync(image, '')
      fs.truncateSync(image, 400 * megabyte)
      fs.mkdirSync(root)
      const [command = '', ...args] = mkfs
      execFileSync(command, [...args, image], { env })
      execFileSync('mount', ['-o', 'loop', image, root])
      t.teardown(() => execFileSync('umount', [root]))

      const posix = await posixIn(root)
      const [from, to] = [await posix.createFolder(), await posix.createFolder()]
      const content = randomBytes(100 * megabyte)
      fs.writeFileSync(join(from.path, 'large'), content)
      fs.truncateSync(join(from.path, 'large'), 110 * megabyte)
      for (let index = 0; index < 100; index++) fs.writeFileSync(join(from.path, `small-${index}`), `content ${index}`)
      execFileSync('sync', ['-f', root])
      const before = (await posix.backend.capacity()).availableBytes
      const { cloned } = await posix.clone(from.id, to.id)
      const after = (await posix.backend.capacity()).availableBytes
      t.ok(before - after < 10 * megabyte, `${before - after} bytes more are used`)
      t.same(cloned, { ...(await posix.backend.count(from.id, call)), changed: [], changedCount: 0 })
      t.equal(execFileSync('diff', ['-r', from.path, to.path], { encoding: 'utf8' }), '')
      t.equal(fs.statSync(join(to.path, 'large')).mtimeMs, fs.statSync(join(from.path, 'large')).mtimeMs)
      t.same(await posix.openFiles(), [])
    },
  )
}
