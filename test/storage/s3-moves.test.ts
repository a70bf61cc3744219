import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Backend } from '../../backends/backend.ts'
import { inChunks } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { startFaultyProxy } from '../faulty-proxy.ts'
import { call, openS3 } from '../s3.ts'
import { eventually } from '../server.ts'

/** The times that S3 tells of objects are in whole seconds. */
const aSecondLater = () => sleep(2000)

/** A backend on the storage itself, and one through a proxy that can make it fail. */
async function start(t: { teardown(fn: () => unknown): void }) {
  const { options, open } = await openS3()
  const proxy = await startFaultyProxy(t, options.endpoint!)
  const { open: openThrough } = await openS3({ ...options, endpoint: proxy.url, maxAttempts: 1 })
  const backends = { backend: await open(), failing: await openThrough() }
  t.teardown(() => Promise.all(Object.values(backends).map((backend) => backend.close())))
  const [folder, other] = [randomUUID(), randomUUID()]
  for (const id of [folder, other]) await backends.backend.createFolder(id, call)
  const write = (path: string, content: string, more: object = {}) =>
    backends.backend.write(folder, parsePath(path), inChunks(Buffer.from(content)), { ...call, ...more })
  return { ...backends, proxy, folder, other, write, contents: (id = folder) => contents(backends.backend, id) }
}

/** All files, and what is in them. */
async function contents(backend: Backend, folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for await (const { path, type, size } of backend.list(folder, { ...call, recursive: true })) {
    if (type === 'directory') continue
    found[path] = ''
    const file = await backend.read(folder, parsePath(path), call)
    for await (const chunk of file.chunks({ start: 0, end: size })) found[path] += chunk.toString()
  }
  return found
}

const collect = (backend: Backend) => backend.collectGarbage({ ...call, idleSeconds: 0 })

for (const entry of ['file', 'directory']) {
  t.test(`a move of a ${entry} that is done, but was not forgotten, does not happen again`, async (t) => {
    const { backend, failing, proxy, folder, write, contents } = await start(t)
    const inside = entry === 'file' ? '' : '/inside'
    const again = async () => {
      await write(`from${inside}`, 'first')
      proxy.fault = ({ method, url }) => (method === 'DELETE' && url?.includes('/moves/') ? 'reset' : undefined)
      await t.rejects(failing.move(folder, parsePath('from'), parsePath('to'), call), { code: 'storage_unavailable' })
      t.same(await contents(), { [`to${inside}`]: 'first' })
      await aSecondLater()
      await write(`from${inside}`, 'second')
    }
    await again()
    await collect(backend)
    const both = { [`from${inside}`]: 'second', [`to${inside}`]: 'first' }
    t.same(await contents(), both, 'by the cleanup')
    await backend.remove(folder, parsePath('to'), { ...call, recursive: true })
    await backend.remove(folder, parsePath('from'), { ...call, recursive: true })
    await again()
    await t.rejects(backend.move(folder, parsePath('from'), parsePath('to'), call), { code: 'entry_exists' })
    t.same(await contents(), both, 'by the same call')
  })
}

t.test('a move that was cut off does not replace what was written to its target meanwhile', async (t) => {
  const { backend, failing, proxy, folder, write, contents } = await start(t)
  await write('from', 'moved')
  proxy.fault = ({ headers }) => (headers['x-amz-copy-source'] !== undefined ? 'reset' : undefined)
  await t.rejects(failing.move(folder, parsePath('from'), parsePath('to'), call), { code: 'storage_unavailable' })
  await aSecondLater()
  await write('to', 'written')
  await t.rejects(backend.move(folder, parsePath('from'), parsePath('to'), call), { code: 'entry_exists' })
  await collect(backend)
  t.same(await contents(), { from: 'moved', to: 'written' })
})

t.test('a directory that was moved in part keeps what was written to it meanwhile', async (t) => {
  const { backend, failing, proxy, folder, write, contents } = await start(t)
  for (const name of ['a', 'b']) await write(`from/${name}`, 'moved')
  proxy.fault = ({ method, url }) => (method === 'POST' && url?.includes('delete') ? 'reset' : undefined)
  await t.rejects(failing.move(folder, parsePath('from'), parsePath('to'), call), { code: 'storage_unavailable' })
  await write('to/a', 'written later')
  await collect(backend)
  t.same(await contents(), { 'to/a': 'written later', 'to/b': 'moved' })
})

t.test('a move that was cut off ends when the vfolder is deleted that it leads to', async (t) => {
  const { backend, failing, proxy, folder, other, write, contents } = await start(t)
  await write('dir/from', 'kept')
  proxy.fault = ({ headers }) => (headers['x-amz-copy-source'] !== undefined ? 'reset' : undefined)
  const options = { ...call, toFolder: other }
  await t.rejects(failing.move(folder, parsePath('dir/from'), parsePath('to'), options), {
    code: 'storage_unavailable',
  })
  await backend.removeFolder(other, call)
  await collect(backend)
  t.same(await contents(), { 'dir/from': 'kept' })
  await t.rejects(contents(other), { code: 'entry_not_found' }, 'and makes nothing in a vfolder that is gone')
})

t.test('the cleanup goes on behind a move that it cannot finish', async (t) => {
  const { failing, proxy, folder, write, contents } = await start(t)
  const names = ['a', 'b', 'bad', 'c']
  proxy.fault = ({ headers }) => (headers['x-amz-copy-source'] !== undefined ? 'reset' : undefined)
  for (const name of names) {
    await write(name, name)
    await t.rejects(failing.move(folder, parsePath(name), parsePath(`moved/${name}`), call), {
      code: 'storage_unavailable',
    })
  }
  proxy.fault = ({ headers }) => (headers['x-amz-copy-source']?.includes('/bad') ? 'reset' : undefined)
  await t.rejects(collect(failing), { code: 'storage_unavailable' })
  t.same(await contents(), { bad: 'bad', 'moved/a': 'a', 'moved/b': 'b', 'moved/c': 'c' })
})

t.test('of many at once that move or copy to one place, one has it, and the others keep theirs', async (t) => {
  const { backend, folder, write, contents } = await start(t)
  const names = Array.from({ length: 8 }, (_, index) => `from-${index}`)
  for (const name of names) {
    await write(name, name)
    await write(`${name}.dir/file`, name)
  }
  const attempts: [string, (name: string) => Promise<unknown>][] = [
    ['moved', (name) => backend.move(folder, parsePath(name), parsePath('moved'), call)],
    ['moved.dir', (name) => backend.move(folder, parsePath(`${name}.dir`), parsePath('moved.dir'), call)],
    ['copied', (name) => backend.copy!(folder, parsePath(name), parsePath('copied'), { ...call, ifAbsent: true })],
  ]
  for (const [target, attempt] of attempts.toReversed()) {
    const before = Object.values(await contents()).length
    const outcomes = await Promise.allSettled(names.map(attempt))
    t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1, target)
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') t.match(outcome.reason, { code: 'entry_exists' })
    }
    const after = Object.values(await contents())
    t.equal(after.length, target === 'copied' ? before + 1 : before, 'nothing is lost')
    if (target === 'copied') await backend.remove(folder, parsePath('copied'), call)
  }
  t.equal(new Set(Object.values(await contents())).size, names.length)
})

t.test('what replaces a file in the second in which its directory is moved is moved as well', async (t) => {
  const { failing, proxy, folder, write, contents } = await start(t)
  const isDeletion = (url = '') => /[?&]delete/.test(url)
  const second = () => Math.floor(Date.now() / 1000)
  let from = ''
  // A loaded machine takes longer than that now and then.
  await eventually(async () => {
    from = randomUUID()
    await write(`${from}/file`, 'first')
    await sleep(1000 - (Date.now() % 1000))
    const began = second()
    proxy.fault = ({ method, url }) => (method === 'POST' && isDeletion(url) ? 'reset' : 'whole-seconds')
    await t.rejects(failing.move(folder, parsePath(from), parsePath(`to/${from}`), call), {
      code: 'storage_unavailable',
    })
    await write(`${from}/file`, 'other')
    return second() === began
  })
  proxy.fault = ({ method }) => (method === 'GET' ? 'whole-seconds' : undefined)
  await failing.move(folder, parsePath(from), parsePath(`to/${from}`), call)
  const { [`${from}/file`]: old, [`to/${from}/file`]: moved } = await contents()
  t.same([old, moved], [undefined, 'other'])
})

for (const entry of ['file', 'directory']) {
  t.test(`a ${entry} that is moved to several names at once has one of them`, async (t) => {
    const { backend, folder, write, contents } = await start(t)
    const inside = entry === 'file' ? [''] : ['/a', '/b', '/c']
    for (const path of inside) await write(`from${path}`, 'bytes')
    const names = ['one', 'two', 'three']
    const moves = await Promise.allSettled(
      names.map((to) => backend.move(folder, parsePath('from'), parsePath(to), call)),
    )
    const failures = moves.flatMap((move) => (move.status === 'rejected' ? [move.reason.code] : []))
    t.same(failures, ['entry_not_found', 'entry_not_found'])
    const to = names[moves.findIndex(({ status }) => status === 'fulfilled')]
    t.same(await contents(), Object.fromEntries(inside.map((path) => [`${to}${path}`, 'bytes'])))
  })
}
