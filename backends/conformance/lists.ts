import assert from 'node:assert/strict'
import { NotADirectory, NotFound } from '../errors.ts'
import { compareBytes, orderKey } from '../order.ts'
import { parsePath } from '../path.ts'
import { Pattern } from '../pattern.ts'
import { assertFails, type Cases, call, forEach, type Subject } from './subject.ts'

export const lists: Cases = {
  'a directory is listed, or the tree below it': async (subject) => {
    for (const path of ['a', 'dir/b', 'dir/sub/c', 'other/d']) await subject.write(path, path)
    await subject.backend.mkdir(subject.folder, parsePath('empty'), call)
    assert.deepEqual(await subject.keys({}), ['a', 'dir/', 'empty/', 'other/'])
    assert.deepEqual(await subject.keys({ path: 'dir' }), ['dir/b', 'dir/sub/'])
    assert.deepEqual(await subject.keys({ path: 'dir', recursive: true }), ['dir/b', 'dir/sub/', 'dir/sub/c'])
    assert.deepEqual(await subject.keys({ path: 'dir/sub' }), ['dir/sub/c'])
    assert.deepEqual(await subject.keys({ path: 'empty', recursive: true }), [])
    const all = ['a', 'dir/', 'dir/b', 'dir/sub/', 'dir/sub/c', 'empty/', 'other/', 'other/d']
    assert.deepEqual(await subject.keys({ recursive: true }), all)
  },

  'what is no directory cannot be listed': async (subject) => {
    await subject.write('dir/file', 'content')
    for (const recursive of [false, true]) {
      for (const path of ['missing', 'dir/missing', 'di', 'dir2']) {
        await assertFails(subject.keys({ path, recursive }), NotFound)
      }
      await assertFails(subject.keys({ path: 'dir/file', recursive }), NotADirectory)
    }
  },

  'entries are told as stat tells them': async (subject) => {
    await subject.write('dir/file', 'content')
    await subject.write('dir/empty', '')
    await subject.backend.mkdir(subject.folder, parsePath('dir/sub'), call)
    for (const { modifiedAt, ...listed } of await subject.entries({ recursive: true })) {
      const { modifiedAt: time, ...stat } = await subject.stat(listed.path)
      assert.deepEqual(listed, stat)
      // HTTP dates have seconds, listings may have parts of them.
      assert.ok(Math.abs(modifiedAt.getTime() - time.getTime()) < 2000 || listed.type === 'directory')
    }
  },

  'the order is by bytes, a directory counting as ending in /': async (subject) => {
    const paths = [
      'B',
      'a',
      'dir-x',
      'dir.txt',
      'dir/child',
      'dir/child-x/leaf',
      'dir/child.txt',
      'dir0',
      'dir0.txt',
      '\u00e9',
      '\uac00',
      '\uffee',
      '\u{1f600}',
    ]
    for (const path of paths.toReversed()) await subject.write(path, '')
    const keys = await subject.keys()
    assert.deepEqual(keys, keys.toSorted(compareBytes))
    assert.deepEqual(
      keys.filter((key) => !key.endsWith('/')),
      paths,
    )
    const top = await subject.keys({})
    assert.deepEqual(
      top,
      keys.filter((key) => !key.replace(/\/$/, '').includes('/')),
    )
  },

  'pages: more entries than one request lists or removes, in three parts, and their removal': async (subject) => {
    const { many } = subject
    const inSub = Math.ceil(many / 10)
    const names = Array.from({ length: many }, (_, index) => String(index * 7919).padStart(8, '0'))
    const paths = names.map((name, index) => (index % 10 === 0 ? `many/sub/${name}` : `many/${name}`))
    await forEach(paths, (path) => subject.write(path, 'x'))
    for (const recursive of [false, true]) {
      const all = await subject.keys({ path: 'many', recursive })
      assert.equal(all.length, recursive ? many + 1 : many - inSub + 1)
      assert.deepEqual(all, all.toSorted(compareBytes))
      assert.deepEqual(await listByPage(subject, { path: 'many', recursive }, Math.ceil(many / 2.4)), all)
    }
    assert.equal((await subject.keys({ recursive: true, after: 'many/sub/' })).length, inSub)
    const removed = await subject.backend.remove(subject.folder, parsePath('many'), { ...call, recursive: true })
    assert.deepEqual(removed, { files: many, bytes: many })
    assert.deepEqual(await subject.keys(), [])
  },

  'after: goes on behind each entry': async (subject) => {
    for (const path of ['a', 'dir-x', 'dir/a', 'dir/sub/b', 'dir/z', 'dir0', 'last']) await subject.write(path, '')
    for (const options of [{}, { recursive: true }, { path: 'dir' }, { path: 'dir', recursive: true }]) {
      const all = await subject.keys(options)
      for (const [index, after] of all.entries()) {
        assert.deepEqual(await subject.keys({ ...options, after }), all.slice(index + 1), `after ${after}`)
      }
    }
  },

  'after: goes on where an entry was that is gone': async (subject) => {
    for (const path of ['a', 'dir/b', 'dir/c', 'e']) await subject.write(path, '')
    await subject.backend.remove(subject.folder, parsePath('dir/b'), call)
    assert.deepEqual(await subject.keys({ recursive: true, after: 'dir/b' }), ['dir/c', 'e'])
    await subject.backend.remove(subject.folder, parsePath('dir'), { ...call, recursive: true })
    assert.deepEqual(await subject.keys({ recursive: true, after: 'dir/b' }), ['e'])
    assert.deepEqual(await subject.keys({ after: 'dir/' }), ['e'])
  },

  'a pattern and a limit: all that matches is there, in its place': async (subject) => {
    const paths = [
      'a',
      'a.csv',
      'dir/b.csv',
      'dir/sub/c.csv',
      'dir/sub/c.txt',
      'dir-2/[x].csv',
      'other/d',
      '\u00e9.csv',
    ]
    for (const path of paths) await subject.write(path, path)
    for (const text of [
      '*.csv',
      'a*',
      'dir/*',
      'dir/**/*.csv',
      '**/sub',
      '[!a-c]*',
      'dir-2/\\[x\\].csv',
      'none',
      'dir/none',
    ]) {
      const pattern = new Pattern(text)
      for (const recursive of pattern.ofPaths ? [true] : [true, false]) {
        const matching = async (options: { after?: string; pattern?: Pattern; limit?: number }) =>
          (await subject.entries({ recursive, ...options })).filter(({ path }) => pattern.matches(path)).map(orderKey)
        const all = await matching({})
        assert.deepEqual(await matching({ pattern }), all, text)
        assert.deepEqual(await matching({ pattern, limit: 1 }), all, text)
        for (const [index, after] of all.entries()) {
          assert.deepEqual(await matching({ pattern, after }), all.slice(index + 1), `${text} after ${after}`)
        }
      }
    }
    const below = await subject.entries({ path: 'dir', recursive: true, pattern: new Pattern('sub/*.csv') })
    assert.ok(
      below.some(({ path }) => path === 'dir/sub/c.csv'),
      'it is relative to the listed directory',
    )
    await assertFails(subject.entries({ path: 'missing', recursive: true, pattern: new Pattern('a/b') }), NotFound)
  },

  'a listing may be ended early': async (subject) => {
    for (const path of ['a', 'b', 'c/d']) await subject.write(path, '')
    for (let time = 0; time < 20; time++) {
      for await (const { path } of subject.backend.list(subject.folder, { ...call, recursive: true })) {
        assert.equal(path, 'a')
        break
      }
    }
  },
}

async function listByPage(
  subject: Subject,
  options: { path: string; recursive: boolean },
  limit: number,
): Promise<string[]> {
  const keys: string[] = []
  for (;;) {
    const page: string[] = []
    const inside = { ...call, ...options, path: parsePath(options.path), after: keys.at(-1) }
    for await (const entry of subject.backend.list(subject.folder, inside)) {
      page.push(orderKey(entry))
      if (page.length === limit) break
    }
    keys.push(...page)
    if (page.length < limit) return keys
  }
}
