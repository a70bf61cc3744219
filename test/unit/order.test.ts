import t from 'tap'
import { compareBytes, orderKey } from '../../backends/order.ts'

t.test('strings compare as their UTF-8 bytes do', async (t) => {
  const strings = [
    '',
    'a',
    'a!',
    'a-b',
    'a/',
    'a/b',
    'a0',
    'A',
    'é',
    'z',
    '\u{d7ff}',
    '\u{e000}',
    '\u{ffff}',
    '\u{10000}',
    '😀',
    '😁',
    '\u{10ffff}',
  ]
  for (const a of strings) {
    for (const b of strings) {
      t.equal(Math.sign(compareBytes(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)), `${a} and ${b}`)
    }
  }
})

t.test('a directory stands right before its contents', async (t) => {
  const entries = [
    { path: 'a/b', type: 'file' },
    { path: 'a0', type: 'file' },
    { path: 'a', type: 'directory' },
    { path: 'a-b', type: 'file' },
  ] as const
  const sorted = entries.toSorted((a, b) => compareBytes(orderKey(a), orderKey(b)))
  t.same(
    sorted.map(({ path }) => path),
    ['a-b', 'a', 'a/b', 'a0'],
  )
})
