import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { InvalidPath } from '../../backends/errors.ts'
import { parsePath, splitPath } from '../../backends/path.ts'
import { call, startPosix } from '../posix.ts'

const longName = 'n'.repeat(255)
const longPath = `${`${'n'.repeat(63)}/`.repeat(63)}${'n'.repeat(64)}`

t.test('a path is split into its names', async (t) => {
  const allowed = {
    a: ['a'],
    'a/b/c.txt': ['a', 'b', 'c.txt'],
    '...': ['...'],
    '.hidden': ['.hidden'],
    'a b/ c ': ['a b', ' c '],
    'a\\..\\b': ['a\\..\\b'],
    '%2e%2e/%2f': ['%2e%2e', '%2f'],
    'line\nbreak': ['line\nbreak'],
    'café/파일/😀': ['café', '파일', '😀'],
    [longName]: [longName],
    ['é'.repeat(127)]: ['é'.repeat(127)],
  }
  for (const [path, names] of Object.entries(allowed)) {
    t.same(splitPath(path), names, path)
    t.equal(parsePath(path), path, path)
  }
  t.equal(Buffer.byteLength(longPath), 4096)
  t.equal(splitPath(longPath).length, 64)
})

t.test('a path that breaks a rule is refused, and the rule named', async (t) => {
  const refused: [string, RegExp][] = [
    ['', /must not be empty/],
    ['/a', /must be relative/],
    ['/', /must be relative/],
    ['a//b', /empty segment/],
    ['a/', /empty segment/],
    ['.', /must not have a \. segment/],
    ['a/./b', /must not have a \. segment/],
    ['..', /must not have a \.\. segment/],
    ['../a', /must not have a \.\. segment/],
    ['a/../../b', /must not have a \.\. segment/],
    ['a/..', /must not have a \.\. segment/],
    ['a\0b', /NUL/],
    ['a\ud800b', /UTF-8/],
    [`${longName}n`, /over 255 bytes/],
    ['é'.repeat(128), /over 255 bytes/],
    [`${longPath}n`, /over 4096 bytes/],
  ]
  for (const [path, message] of refused) t.throws(() => splitPath(path), { constructor: InvalidPath, message }, path)
})

t.test('what comes past the types to a posix volume is refused by it', async (t) => {
  const posix = await startPosix(t)
  const { id, path } = await posix.createFolder()
  const recursive = { ...call, recursive: true }
  const calls = {
    stat: [id, '..', call],
    read: [id, '../file', call],
    remove: [id, '..', recursive],
    move: [id, 'a/../..', 'moved', call],
    mkdir: [id, 'a/../../made', call],
  } as const
  for (const [name, args] of Object.entries(calls)) {
    const run = async () => Reflect.apply(Reflect.get(posix.backend, name), posix.backend, args)
    await t.rejects(run(), { code: 'invalid_path' }, name)
  }
  t.same(await readdir(join(path, '..')), [id])
})
