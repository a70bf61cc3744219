import { compileErrors, validate } from '@readme/openapi-parser'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import t from 'tap'
import { type Answer, startServer } from '../server.ts'
import { server } from '../shared-server.ts'

const text = await (await fetch(`${server.url}/openapi.json`)).text()
const document: Answer = JSON.parse(text)
const methods = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace']
const operations: [name: string, path: string, operation: Answer][] = Object.entries<Answer>(document.paths).flatMap(
  ([path, item]) =>
    Object.entries<Answer>(item)
      .filter(([method]) => methods.includes(method))
      .map(([method, operation]): [string, string, Answer] => [`${method.toUpperCase()} ${path}`, path, operation]),
)

t.test('the rules that Redocly recommends', async (t) => {
  // There is no licence yet.
  const config = await createConfig({ extends: ['recommended'], rules: { 'info-license': 'off' } })
  const found = await lintFromString({ source: text, absoluteRef: '/openapi.json', config })
  t.same(
    found.map(({ ruleId, message, location }) => `${ruleId}: ${message} at ${location[0]?.pointer}`),
    [],
  )
})

t.test('the parser of ReadMe', async (t) => {
  const result = await validate(structuredClone(document))
  t.ok(result.valid, result.valid ? 'it is valid' : compileErrors(result))
  t.same(result.warnings, [])
})

t.test('each operation has what a generated client needs', async (t) => {
  const ids = operations.map(([, , { operationId }]) => operationId)
  t.equal(new Set(ids).size, operations.length, 'each has a name of its own')
  const tags = new Set(document.tags.map(({ name, description }: Answer) => description && name))
  for (const [name, path, { operationId, security, summary, parameters = [], ...operation }] of operations) {
    t.match(operationId, /^[a-z][A-Za-z]+$/, `${name} has a name`)
    t.ok(summary, `${name} has a summary`)
    t.ok(operation.tags.length === 1 && tags.has(operation.tags[0]), `${name} has a tag that is described`)
    const isOpen = path.endsWith('z') || path === '/metrics' || name.startsWith('OPTIONS')
    const scheme = /^\/(download|upload)\//.test(path) ? 'signedUrl' : 'manager'
    t.same(security, isOpen ? [] : [{ [scheme]: [] }], `${name} says who may`)
    const named = [...path.matchAll(/\{([A-Za-z]+)\}/g)].map(([, parameter]) => parameter)
    t.same(
      parameters.filter((one: Answer) => one.in === 'path').map((one: Answer) => one.name),
      named,
      `${name} has its parameters`,
    )
    t.notMatch(path, /\*/)
  }
  t.same(
    document.servers.map(({ url }: Answer) => url),
    ['/'],
  )
  const other = await startServer(t, { env: { PUBLIC_URL: 'https://files.example/storage' } })
  const { servers }: Answer = await (await fetch(`${other.url}/openapi.json`)).json()
  t.equal(servers[1].url, 'https://files.example/storage', 'signed URLs may lead elsewhere')
})

t.test('each JSON body has an example, which fits', async (t) => {
  const ajv = formats.default(new Ajv2020({ strict: false }))
  ajv.addSchema({ $id: 'document', ...document })
  for (const [name, , { requestBody, responses }] of operations) {
    const bodies = [requestBody, ...Object.values<Answer>(responses)].flatMap((body) =>
      Object.entries<Answer>(body?.content ?? {}),
    )
    for (const [type, { schema, example }] of bodies) {
      if (!type.endsWith('json') || type.includes('ndjson')) continue
      t.not(example, undefined, `${name}: ${type} has an example`)
      const full = JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"document#/'))
      t.ok(ajv.validate(full, example), `${name}: ${JSON.stringify(example)} fits: ${ajv.errorsText()}`)
    }
  }
})
