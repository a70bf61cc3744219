import assert from 'node:assert/strict'
import { compareBytes } from '../order.ts'
import { parsePath } from '../path.ts'
import { type Cases, call } from './subject.ts'

const names = [
  '한글 파일.txt',
  // The same to the eye, decomposed: another name.
  '한글 파일.txt'.normalize('NFD'),
  '👩‍🚀🚀.png',
  'with spaces',
  ' leading and trailing ',
  'trailing.',
  '...',
  '.hidden',
  `"double" and 'single' quotes`,
  '100% %2F %00 %',
  'a#b?c&d=e+f;g',
  'back\\slash',
  'new\nline\tand tab',
  '<xml> &amp; ]]>',
  '*?[a]{b}~!$(c)`d`|',
  'x'.repeat(255),
  '가'.repeat(85),
]

export const unusualNames: Cases = {
  'names are kept as they are': async (subject) => {
    for (const name of names) await subject.write(name, `content of ${name}`)
    assert.deepEqual(await subject.keys({}), names.toSorted(compareBytes))
    for (const name of names) {
      assert.equal((await subject.stat(name)).path, name)
      assert.equal(await subject.text(name), `content of ${name}`)
    }
  },

  'names of directories are kept as they are': async (subject) => {
    for (const name of names) await subject.write(`${name}/file`, name)
    const expected = names.flatMap((name) => [`${name}/`, `${name}/file`]).toSorted(compareBytes)
    assert.deepEqual(await subject.keys(), expected)
    for (const name of names) {
      assert.equal((await subject.stat(name)).type, 'directory')
      assert.deepEqual(await subject.keys({ path: name }), [`${name}/file`])
    }
  },

  'a page may begin behind any name': async (subject) => {
    for (const name of names) await subject.write(name, '')
    const sorted = names.toSorted(compareBytes)
    for (const [index, after] of sorted.entries()) {
      assert.deepEqual(await subject.keys({ after }), sorted.slice(index + 1))
    }
  },

  'entries of any name are moved and removed': async (subject) => {
    for (const name of names) {
      await subject.write(name, name)
      await subject.backend.move(subject.folder, parsePath(name), parsePath(`moved/${name}`), call)
      assert.equal(await subject.text(`moved/${name}`), name)
      await subject.backend.remove(subject.folder, parsePath(`moved/${name}`), call)
    }
    assert.deepEqual(
      (await subject.keys()).filter((key) => key !== 'moved/'),
      [],
    )
  },

  'deep paths': async (subject) => {
    const path = Array.from({ length: 60 }, (_, depth) => `depth-${depth}`).join('/')
    await subject.write(path, 'deep')
    assert.equal(await subject.text(path), 'deep')
    assert.equal((await subject.keys()).length, 60)
    await subject.backend.remove(subject.folder, parsePath('depth-0'), { ...call, recursive: true })
    assert.deepEqual(await subject.keys(), [])
  },
}
