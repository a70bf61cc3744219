import t from 'tap'
import { brokenPatternRule, Pattern } from '../../backends/pattern.ts'

const cases: [pattern: string, matching: string[], others: string[]][] = [
  ['*', ['a', '.hidden', 'dir/a', '[', '😀'], []],
  ['*.csv', ['a.csv', '.csv', 'dir/sub/a.csv'], ['a.csv.gz', 'csv', 'a.csv/b', 'A.CSV']],
  ['a*b*c', ['abc', 'aXbYc', 'abbc', 'abcabc'], ['ab', 'acb', 'xabc']],
  ['*a*a*b', ['aab', 'xaxaxb', 'aaaab'], ['ab', 'aaba']],
  ['?', ['a', 'é', '😀', 'dir/a'], ['', 'ab']],
  ['a?c', ['abc', 'a😀c'], ['ac', 'abbc']],
  ['*?', ['a', '😀'], ['']],
  ['*??', ['ab', '😀😀'], ['😀']],
  ['[abc]', ['a', 'b'], ['d', '', 'ab']],
  ['[a-cx]*', ['a', 'c1', 'x'], ['d', '-']],
  ['[!a-c]', ['d', '😀', '-'], ['a', 'b']],
  ['[^a]', ['b'], ['a', '^b']],
  ['*[!😀]', ['a', '😀a'], ['😀']],
  ['[-a]', ['-', 'a'], ['b']],
  ['[a-]', ['-', 'a'], ['b']],
  ['[\\]\\\\]', [']', '\\'], ['a']],
  ['[*?[]', ['*', '?', '['], ['a']],
  ['\\*\\[x\\]', ['*[x]'], ['a[x]']],
  ['{a,b}', ['{a,b}'], ['a', 'b']],
  ['!a', ['!a'], ['b', 'a']],
  ['a/*', ['a/b'], ['a', 'a/b/c', 'x/a/b']],
  ['*/b', ['a/b'], ['b', 'a/a/b']],
  ['**', ['a', 'a/b/c'], []],
  ['a/**', ['a/b', 'a/b/c'], ['a', 'ab', 'b/a']],
  ['**/b', ['b', 'a/b', 'a/a/b'], ['a/bb', 'b/a']],
  ['a/**/b', ['a/b', 'a/x/b', 'a/x/y/b'], ['a/x', 'ab', 'b']],
  ['**/a/**/b/**', ['a/b/c', 'x/a/x/b/c/d'], ['a/b', 'b/a/c']],
  ['a/**/**', ['a/b', 'a/b/c'], ['a']],
]

t.test('what a pattern matches', async (t) => {
  for (const [text, matching, others] of cases) {
    const pattern = new Pattern(text)
    for (const path of matching) t.ok(pattern.matches(path), `${text} matches ${path}`)
    for (const path of others) t.notOk(pattern.matches(path), `${text} does not match ${path}`)
    for (const path of pattern.ofPaths ? matching : []) {
      t.ok(path.startsWith(pattern.literal), `${path} begins with ${pattern.literal}`)
      for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) {
        t.ok(pattern.leadsBelow(path.slice(0, end)), `${text} leads into ${path.slice(0, end)}`)
      }
    }
  }
})

t.test('what all that matches begins with, and where none is looked for', async (t) => {
  const literals = {
    'a*': 'a',
    'logs/2026-?/x': 'logs/2026-',
    'a/**': 'a/',
    '\\*x[a]': '*x',
    'dir/file': 'dir/file',
    '**/a': '',
  }
  for (const [text, literal] of Object.entries(literals)) t.equal(new Pattern(text).literal, literal, text)
  t.notOk(new Pattern('a/*').leadsBelow('b'))
  t.notOk(new Pattern('a/*').leadsBelow('a/b'))
  t.ok(new Pattern('a/**').leadsBelow('a/b/c'))
  t.ok(new Pattern('*.csv').leadsBelow('any/where'))
})

t.test('what cannot be parsed', async (t) => {
  const broken = {
    '': 'must not be empty',
    '\0': 'must not contain NUL',
    '\ud800': 'must be valid UTF-8',
    '/a': 'must not begin or end with / or have //',
    'a/': 'must not begin or end with / or have //',
    'a//b': 'must not begin or end with / or have //',
    '../a': 'must not have a .. segment',
    'a/.': 'must not have a . segment',
    'a**': 'must have ** only as a whole segment',
    '***': 'must have ** only as a whole segment',
    '[a': 'must have a ] for each [ in the same segment',
    '[a/b]': 'must have a ] for each [ in the same segment',
    '[a\\]': 'must have a ] for each [ in the same segment',
    '[]': 'must not have a [] without characters',
    '[!]': 'must not have a [] without characters',
    '[z-a]': 'must have ranges from a lower to a higher character',
    '[[:alpha:]]': 'must not have classes such as [:alpha:]',
    'a\\': 'must have a character after each \\',
    'a\\/b': 'must have a character after each \\',
    ['a'.repeat(1025)]: 'must not be over 1024 bytes',
  }
  for (const [text, rule] of Object.entries(broken)) {
    t.equal(brokenPatternRule(text), rule, JSON.stringify(text))
    t.throws(() => new Pattern(text), { code: 'invalid_path' })
  }
})

t.test('no pattern takes long', async (t) => {
  const name = 'a'.repeat(255)
  const path = Array.from({ length: 2000 }, () => 'a').join('/')
  const begin = process.cpuUsage()
  t.notOk(new Pattern(`${'*a'.repeat(500)}b`).matches(name))
  t.notOk(new Pattern(`${'**/a/'.repeat(200)}b`).matches(path))
  t.notOk(new Pattern(`${'**/*a*/'.repeat(140)}b`).matches(path))
  t.ok(process.cpuUsage(begin).user < 2_000_000, 'a regular expression would take longer than the universe has')
})
