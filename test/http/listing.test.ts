import { linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually, keyOf, startServer } from '../server.ts'
import { server } from '../shared-server.ts'

t.test('list', async (t) => {
  const files = await server.files()
  const names = ['a', 'a.txt', 'a/1', 'a/2/deep', 'a-b', 'Z', 'é', '파일', '\u{ff5e}', '😀', 'b/1']
  await files.upload(Object.fromEntries(names.slice(1).map((name) => [name, name])))
  const all = ['Z', 'a-b', 'a.txt', 'a/', 'a/1', 'a/2/', 'a/2/deep', 'b/', 'b/1', 'é', '파일', '\u{ff5e}', '😀']
  const top = all.filter((key) => !key.slice(0, -1).includes('/'))

  await t.test('in byte order, where a directory counts as ending in a slash', async (t) => {
    t.same(await files.keys('recursive=true'), [all])
    t.same(await files.keys(''), [top])
    t.same(await files.ndjson('recursive=true'), all)
    t.same(await files.ndjson(''), top)
    t.same(await files.keys('path=a'), [['a/1', 'a/2/']])
    t.same(await files.ndjson('path=a&recursive=true'), ['a/1', 'a/2/', 'a/2/deep'])
  })

  await t.test('as NDJSON where that is named, and liked no less than JSON', async (t) => {
    const json = 'application/json'
    const lines = 'application/x-ndjson'
    const cases: [wanted: string, accept: string][] = [
      [lines, lines],
      [lines, 'Application/X-NDJSON; charset=utf-8'],
      [lines, `${lines}, ${json};q=0.9, */*;q=0.8`],
      [lines, `${json};q=0.5,${lines};q=0.5`],
      [lines, `${lines}, */*`],
      [json, `${json}, ${lines};q=0`],
      [json, `${lines};q=0`],
      [json, `${lines};q=0.2, ${json}; q=0.3`],
      [json, `${lines};q=0.2, */*`],
      [json, `${lines};q=nonsense, ${json}`],
      [json, `${lines}-and-more`],
      [json, '*/*'],
      [json, 'text/html'],
      [json, ''],
    ]
    for (const [wanted, accept] of cases) {
      const response = await server.manager('GET', `/folders/${files.folder}/files`, undefined, { accept })
      t.equal(response.headers.get('content-type')?.split(';')[0], wanted, accept)
      await response.arrayBuffer()
    }
  })

  await t.test('pages of any size are the same listing', async (t) => {
    for (let limit = 1; limit <= all.length + 1; limit++) {
      const pages = await files.keys(`recursive=true&limit=${limit}`)
      t.same(pages.flat(), all)
      t.ok(pages.slice(0, -1).every((page) => page.length === limit))
      t.not(pages.at(-1)!.length, 0, 'no page is empty')
    }
    t.same((await files.keys('path=a&limit=1')).flat(), ['a/1', 'a/2/'])
  })

  await t.test('what comes and goes between two pages does not disturb the others', async (t) => {
    const url = `/folders/${files.folder}/files?limit=3`
    const { entries, nextCursor } = await server.ask('GET', url)
    t.same(entries.map(keyOf), ['Z', 'a-b', 'a.txt'])
    await files.post('delete', { paths: ['a.txt', 'b'], recursive: true })
    await files.upload({ A: 'before', c: 'after' })
    const next = await server.ask('GET', `${url}&cursor=${nextCursor}`)
    t.same(next.entries.map(keyOf), ['a/', 'c', 'é'])
  })

  await t.test('only what a pattern matches, in pages of any size', async (t) => {
    const folder = await server.files()
    const names = [
      '.a.csv',
      '[x].csv',
      'a.csv',
      'b.txt',
      'é.csv',
      '😀.csv',
      'd.csv/inside.txt',
      'dir/c.csv',
      'dir/sub/d.csv',
    ]
    await folder.upload(Object.fromEntries(names.map((name) => [name, name])))
    const cases: Record<string, string[]> = {
      'pattern=*.csv': ['.a.csv', '[x].csv', 'a.csv', 'd.csv/', 'é.csv', '😀.csv'],
      'pattern=?.csv': ['a.csv', 'd.csv/', 'é.csv', '😀.csv'],
      'pattern=[!a-c]*': ['.a.csv', '[x].csv', 'd.csv/', 'dir/', 'é.csv', '😀.csv'],
      'pattern=\\[*': ['[x].csv'],
      'pattern=none*': [],
      'recursive=true&pattern=[cd].csv': ['d.csv/', 'dir/c.csv', 'dir/sub/d.csv'],
      'recursive=true&pattern=dir/*': ['dir/c.csv', 'dir/sub/'],
      'recursive=true&pattern=dir/**': ['dir/c.csv', 'dir/sub/', 'dir/sub/d.csv'],
      'recursive=true&pattern=**/*.txt': ['b.txt', 'd.csv/inside.txt'],
      'recursive=true&path=dir&pattern=*/d.csv': ['dir/sub/d.csv'],
      'path=dir&pattern=*.csv': ['dir/c.csv'],
    }
    for (const [query, keys] of Object.entries(cases)) {
      const text = query.replace(/pattern=(.*)/, (_, pattern) => `pattern=${encodeURIComponent(pattern)}`)
      t.same(await folder.ndjson(text), keys, `${query} as NDJSON`)
      for (const limit of [1, 2, 1000]) t.same((await folder.keys(`${text}&limit=${limit}`)).flat(), keys, query)
    }
  })

  await t.test('a pattern that says nothing definite is refused', async (t) => {
    const refused = async (query: string, rule: string) => {
      const response = await server.manager('GET', `/folders/${files.folder}/files?${query}`)
      t.match(await response.json(), {
        status: 400,
        code: 'validation_failed',
        field: 'pattern',
        rule,
        in: 'querystring',
      })
    }
    await refused('pattern=%5Ba', 'must have a ] for each [ in the same segment')
    await refused('pattern=', 'must not be empty')
    await refused('pattern=a/../b', 'must not have a .. segment')
    await refused('pattern=a/*', 'must have neither / nor ** without recursive')
    await refused('pattern=**', 'must have neither / nor ** without recursive')
  })

  t.match(await server.manager('GET', `/folders/${files.folder}/files?path=none`), { status: 404 })
  const missing = { accept: 'application/x-ndjson' }
  t.match(
    await server.manager('GET', `/folders/${files.folder}/files?path=none`, undefined, missing),
    { status: 404 },
    'as NDJSON too',
  )
})

t.test('40,000 entries in one directory', async (t) => {
  const files = await server.files()
  const expected: string[] = []
  let original = ''
  for (let number = 0; number < 40_000; number++) {
    // Names of many lengths, in an order that is neither theirs nor the directory's.
    const name = `${(number * 7919) % 120_011}-é${'x'.repeat(number % 17)}`
    const path = join(files.mount, name)
    if (number % 30_000 === 0) {
      original = path
      writeFileSync(original, '')
    } else if (number % 1000 === 1) {
      mkdirSync(path)
    } else {
      linkSync(original, path) // a fifth of the time of a new file
    }
    expected.push(number % 1000 === 1 ? `${name}/` : name)
  }
  expected.sort()

  for (const [how, found] of [
    ['NDJSON', await files.ndjson('')],
    ['pages', (await files.keys('limit=10000')).flat()],
  ] as const) {
    t.equal(found.length, expected.length, how)
    t.equal(
      found.find((key, index) => key !== expected[index]),
      undefined,
      `${how}: all of them, in order, each once`,
    )
  }
})

t.test('a tree that is deeper than the call stack', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const deepest = 'd/'.repeat(1900)
  mkdirSync(join(files.mount, deepest), { recursive: true })
  writeFileSync(join(files.mount, deepest, 'file'), '')
  const found = await files.ndjson('recursive=true')
  t.equal(found.length, 1901)
  t.equal(found.at(-1), `${deepest}file`)
  t.same((await files.keys('recursive=true&limit=500')).flat(), found)
  t.same(await files.post('delete', { paths: ['d'], recursive: true }), [200, { deleted: ['d'], missing: [] }])
  t.same([await files.keys(''), await server.staged()], [[[]], []])
  await eventually(async () => (await server.openFiles()).length === 0)
})
