import { globSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { basename, dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { temporaryDirectory } from '../server.ts'
import { allNeeds, isTool, missing, needsOf, needsOfFiles } from '../tools.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const textOf = (file: string) => readFileSync(join(root, file), 'utf8')

/** The programs that every Debian has, or npm brings. */
const everywhere = new Set(
  'apt-get bash chmod cp diff du env false find grep head kill ls mkfifo npm rm sed set sh sha256sum sleep stat sync tail tap tar tr true wc'.split(
    ' ',
  ),
)

const modules = new Set(globSync('test/**/*.ts', { cwd: root }))

/** A test file and the modules of `test/` that it is made of. */
function sourcesOf(file: string, found = new Set<string>()): Set<string> {
  if (found.has(file) || file === 'test/tools.ts') return found
  found.add(file)
  for (const [, path = ''] of textOf(file).matchAll(/from '(\.[^']*\.ts)'/g)) {
    const imported = normalize(join(dirname(file), path))
    if (modules.has(imported)) sourcesOf(imported, found)
  }
  return found
}

/** The first word of each command of a shell's line. */
function commandsOf(script: string): string[] {
  return script.split(/\|\||&&|[|;\n]/).flatMap((command) => /^\s*([a-z][\w.-]*)/.exec(command)?.[1] ?? [])
}

/** The programs that a text starts by their name. */
function programsIn(text: string): string[] {
  const started = [
    ...text.matchAll(/\b(?:spawn|spawnSync|run|execFile|execFileSync|promisify\(execFile\))\(\s*'([^']+)'/g),
  ]
  const shells = [...text.matchAll(/'(?:ba)?sh', \[\s*'-c',\s*(['`])(.*?)\1/gs)]
  return [...started.map(([, name = '']) => name), ...shells.flatMap(([, , script = '']) => commandsOf(script))]
}

t.test('what was installed a moment ago is there', async (t) => {
  const directory = await temporaryDirectory(t)
  const { PATH } = process.env
  process.env.PATH = directory
  t.teardown(() => {
    process.env.PATH = PATH
  })
  t.same(missing(['chromium']), ['chromium'])
  await writeFile(join(directory, 'chromium'), '', { mode: 0o755 })
  t.same(missing(['chromium']), [])
})

const files = globSync('test/**/*.test.ts', { cwd: root })

t.test('each program that a test starts is one that every machine has, or is in the table', async (t) => {
  const known = new Set<string>([...everywhere, ...allNeeds])
  const started = [...modules].flatMap((file) => programsIn(textOf(file)))
  t.ok(started.length > 50, `${started.length} are started`)
  t.same(
    [...new Set(started)].filter((program) => !known.has(program)),
    [],
  )
})

t.test('each file says what it needs', async (t) => {
  for (const file of files) {
    const text = textOf(file)
    const said = new Set<string>(needsOf(file))
    for (const need of allNeeds) if (new RegExp(`needing\\([^)]*'${need}'`).test(text)) said.add(need)
    const started = programsIn(text).filter((program) => allNeeds.some((need) => need === program))
    t.same(
      started.filter((program) => !said.has(program)),
      [],
      file,
    )
  }
})

t.test('whoever starts a Ceph says so', async (t) => {
  for (const file of files) {
    const uses = [...sourcesOf(file)].some((source) => /\b(cephServer|s3Server|s3Volume)\(/.test(textOf(source)))
    const declared = basename(file, '.test.ts') in needsOfFiles
    if (uses) t.ok(declared, file)
  }
})

t.test('nothing stands in the table that no test needs', async (t) => {
  const all = files.map(textOf).join('\n')
  for (const need of allNeeds) {
    const byFile = Object.values(needsOfFiles).some((needs) => needs.includes(need))
    t.ok(byFile || all.includes(`'${need}'`), need)
    if (isTool(need)) t.notOk(everywhere.has(need), `${need} is not everywhere`)
  }
  for (const name of Object.keys(needsOfFiles))
    t.ok(
      files.some((file) => file.endsWith(`/${name}.test.ts`)),
      name,
    )
})
