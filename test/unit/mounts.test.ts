import { pino } from 'pino'
import t from 'tap'
import { posix } from '../../backends/posix/index.ts'
import { mountAt } from '../../backends/posix/mounts.ts'

const entry = (id: string, point: string, type = 'ext4') => ({ id, point, type })

t.test('the mount that a path leads to', async (t) => {
  const mounts = [entry('1', '/'), entry('2', '/srv'), entry('3', '/srv/files'), entry('4', '/srv', 'nfs')]
  const idAt = (path: string) => mountAt(mounts, path)?.id
  t.equal(idAt('/etc'), '1')
  t.equal(idAt('/srvs'), '1')
  t.equal(idAt('/srv'), '4', 'the last one that is mounted there')
  t.equal(idAt('/srv/other'), '4')
  t.equal(idAt('/srv/files/a'), '3')
  t.equal(mountAt([], '/srv'), undefined)
})

t.test('a mount that the root cannot be on stops the start', async (t) => {
  const { signal } = new AbortController()
  const create = (mount: string) =>
    posix.create({ options: { root: '/srv/files', mount }, log: pino({ level: 'silent' }), idleSeconds: 240, signal })
  const message = 'mount must be true, or the root or a directory above it'
  await t.rejects(create('/srv/files/below'), { message })
  await t.rejects(create('/srv/fil'), { message })
})
