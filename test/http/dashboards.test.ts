import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import t from 'tap'
import { scrape } from '../metrics.ts'
import { temporaryDirectory } from '../server.ts'
import { server } from '../shared-server.ts'
import { searchPath } from '../tools.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

const DataSource = Type.Object({ type: Type.Literal('prometheus'), uid: Type.RegExp(/^\$\{datasource\}$/) })
const Panel = Type.Object({
  id: Type.Integer(),
  type: Type.Union(['row', 'stat', 'timeseries'].map((type) => Type.Literal(type))),
  title: Type.String({ minLength: 1 }),
  gridPos: Type.Object({ x: Type.Integer(), y: Type.Integer(), w: Type.Integer(), h: Type.Integer() }),
  datasource: Type.Optional(DataSource),
  targets: Type.Optional(
    Type.Array(Type.Object({ refId: Type.String(), datasource: DataSource, expr: Type.String() }), { minItems: 1 }),
  ),
})
/** What Grafana 10 and later read, as far as it can go wrong here. */
const Dashboard = Type.Object({
  uid: Type.String({ pattern: '^[a-z0-9-]{1,40}$' }),
  title: Type.String({ pattern: '^Storage-proxy: ' }),
  schemaVersion: Type.Integer({ minimum: 38 }),
  tags: Type.Array(Type.Literal('storage-proxy'), { minItems: 1 }),
  templating: Type.Object({
    list: Type.Array(Type.Object({ name: Type.String(), type: Type.String(), query: Type.Unknown() })),
  }),
  panels: Type.Array(Panel, { minItems: 1 }),
})

const files = readdirSync(join(root, 'deploy/grafana'))
const dashboards = files.map((file) => {
  const content: unknown = JSON.parse(readFileSync(join(root, 'deploy/grafana', file), 'utf8'))
  return { file, dashboard: Value.Decode(Dashboard, content) }
})
const expressions = dashboards.flatMap(({ file, dashboard }) =>
  dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ of: `${file}: ${title}`, expr }))),
)
const variables = dashboards.flatMap(({ file, dashboard }) =>
  dashboard.templating.list
    .filter(({ type }) => type === 'query')
    .map(({ name, query }) => ({ of: `${file}: ${name}`, expr: JSON.stringify(query) })),
)

t.test('each dashboard is one that Grafana reads', async (t) => {
  const uids = dashboards.map(({ dashboard }) => dashboard.uid)
  t.equal(new Set(uids).size, files.length)
  for (const { file, dashboard } of dashboards) {
    const { panels, templating } = dashboard
    t.equal(new Set(panels.map(({ id }) => id)).size, panels.length, file)
    const taken: string[] = []
    for (const { title, type, targets, gridPos } of panels) {
      const { x, y, w, h } = gridPos
      t.ok(x >= 0 && x + w <= 24, title)
      for (let column = x; column < x + w; column++) {
        for (let line = y; line < y + h; line++) taken.push(`${column} ${line}`)
      }
      t.equal(targets === undefined, type === 'row', title)
    }
    t.equal(new Set(taken).size, taken.length, `${file}: each panel has a place of its own`)
    const names = templating.list.map(({ name }) => name)
    t.equal(names[0], 'datasource')
    const used = new Set([...JSON.stringify(panels).matchAll(/\$(\w+)/g)].map(([, name]) => name!))
    t.same(
      [...used].filter((name) => !name.startsWith('__') && !names.includes(name)),
      [],
    )
  }
})

t.test('Prometheus can read each expression', async (t) => {
  const rules = expressions.map(({ expr }, index) => {
    const filled = expr.replace(/\$__(rate_interval|range)/g, '5m').replace(/\$\w+/g, '.*')
    return `  - record: panel:${index}\n    expr: ${JSON.stringify(filled)}\n`
  })
  const path = join(await temporaryDirectory(t), 'panels.yml')
  await writeFile(path, `groups:\n- name: panels\n  rules:\n${rules.join('')}`)
  const check = spawnSync('promtool', ['check', 'rules', path], { encoding: 'utf8', env: { PATH: searchPath } })
  t.match(check, { status: 0, stdout: `SUCCESS: ${rules.length} rules found` }, check.stderr)
})

t.test('what it asks for is there, with these labels', async (t) => {
  const { text } = await scrape(server)
  const told = [...text.matchAll(/^# TYPE (\w+) (\w+)/gm)].flatMap(([, name, type]) =>
    type === 'histogram'
      ? [`${name}_bucket`, `${name}_count`, `${name}_sum`]
      : type === 'summary'
        ? [`${name}_sum`]
        : [name],
  )
  const labels = new Map(
    [
      ...readFileSync(join(root, 'docs/metrics.md'), 'utf8').matchAll(
        /^\| `(storage_proxy_\w+)` \| \w+ \| ([^|]*)\|/gm,
      ),
    ].map(([, name, listed]) => [name!, [...listed!.matchAll(/`(\w+)`/g)].map(([, label]) => label!)]),
  )
  for (const { of, expr } of [...expressions, ...variables]) {
    const metrics = [...expr.matchAll(/\b(?:storage_proxy|nodejs|process)_\w+/g)].map(([name]) => name)
    t.ok(metrics.length > 0, of)
    t.same(
      metrics.filter((name) => !told.includes(name)),
      [],
      of,
    )
    const known = metrics.flatMap((name) => labels.get(name.replace(/_(bucket|count|sum)$/, '')) ?? ['kind'])
    const asked = [
      ...[...expr.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)].map(([, label]) => label!),
      ...[...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list]) => list!.split(', ')),
    ]
    const allowed = [...known, 'instance', 'le']
    t.same(
      asked.filter((label) => !allowed.includes(label)),
      [],
      of,
    )
  }
})
