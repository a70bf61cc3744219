import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { cp, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import { Deployment } from 'kubernetes-models/apps/v1'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1'
import { PersistentVolumeClaim, Secret, Service } from 'kubernetes-models/v1'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { deployedConfiguration, freePort, startNginx } from '../nginx.ts'
import { type Answer, compileCache, eventually, startServer, temporaryDirectory } from '../server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const textOf = (file: string) => readFile(join(root, file), 'utf8')

/** The instructions of the image's last stage, each with what follows its name. */
async function instructions(name: string): Promise<string[]> {
  const stages = (await textOf('deploy/Dockerfile')).split(/^FROM /m)
  return [...stages.at(-1)!.matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].map(([, rest = '']) => rest)
}

async function documentsOf(file: string): Promise<Answer[]> {
  return parseAllDocuments(await textOf(file), { merge: true }).map((document) => {
    if ('errors' in document && document.errors.length > 0) throw document.errors[0]
    return 'toJS' in document ? document.toJS() : undefined
  })
}

t.test('the image has all that the service needs, and its commands run', async (t) => {
  const app = await temporaryDirectory(t)
  const copied = (await instructions('COPY')).filter((rest) => !rest.startsWith('--from'))
  for (const name of copied.flatMap((rest) => rest.split(' ').slice(0, -1))) {
    await cp(join(root, name), join(app, name), { recursive: true })
    t.match(await textOf('deploy/Dockerfile.dockerignore'), `\n!${name}\n`)
  }
  await symlink(join(root, 'node_modules'), join(app, 'node_modules'))
  const [command = '[]'] = await instructions('CMD')
  const [node, ...args]: string[] = JSON.parse(command)
  t.equal(node, 'node')
  const variables = Object.fromEntries(
    (await instructions('ENV'))
      .join(' ')
      .split(' ')
      .map((pair) => pair.split('=')),
  )
  const env = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: compileCache,
    ...variables,
    HOST: '127.0.0.1',
    PORT: String(await freePort()),
    DATA_DIR: join(app, 'data'),
  }
  const child = spawn(
    process.execPath,
    args.map((arg) => arg.replace('/app/', `${app}/`)),
    { env, stdio: 'ignore' },
  )
  t.teardown(() => child.kill('SIGKILL'))
  const [, check = '[]'] = (await instructions('HEALTHCHECK'))[0]!.split(' CMD ')
  const isHealthy = () => {
    const args: string[] = JSON.parse(check).slice(1)
    return run(process.execPath, args, { env }).then(
      () => true,
      () => false,
    )
  }
  await eventually(isHealthy)
  t.equal(await end(child), 0)
  t.notOk(await isHealthy())
})

async function end(child: ChildProcess): Promise<number | null> {
  child.kill('SIGTERM')
  const [code] = await once(child, 'exit')
  return code
}

t.test('all start Node with the same options', async (t) => {
  const options = (line: string) => line.match(/--[a-z-]+=\d+/g)
  const { scripts } = JSON.parse(await textOf('package.json'))
  t.ok(options(scripts.start)!.length > 0)
  t.same(options((await instructions('CMD'))[0]!), options(scripts.start))
  const unit = await textOf('deploy/storage-proxy.service')
  t.same(options(/^ExecStart=.*$/m.exec(unit)![0]), options(scripts.start))
})

t.test('the unit of systemd', needing('systemd-analyze'), async (t) => {
  const unit = join(await temporaryDirectory(t), 'storage-proxy.service')
  await writeFile(unit, (await textOf('deploy/storage-proxy.service')).replaceAll('/opt/storage-proxy/current', root))
  const { stdout, stderr } = await run('systemd-analyze', ['verify', unit])
  // It complains about units of the machine, too.
  t.notMatch(stdout + stderr, 'storage-proxy.service')
})

t.test('the schemas of compose and Kubernetes', async (t) => {
  const ajv = new Ajv({ strict: false, validateSchema: false, logger: false })
  formats.default(ajv)
  const fits = ajv.compile(JSON.parse(await textOf('node_modules/dclint/schemas/compose.schema.json')))
  for (const file of ['deploy/compose.yaml', 'deploy/compose.cluster.yaml']) {
    for (const document of await documentsOf(file)) t.ok(fits(document), `${file}: ${JSON.stringify(fits.errors)}`)
  }
  const kinds = { Secret, PersistentVolumeClaim, Deployment, Service, PodDisruptionBudget }
  for (const document of await documentsOf('deploy/kubernetes.yaml')) {
    const kind = kinds[document.kind as keyof typeof kinds]
    t.equal(document.apiVersion, kind.apiVersion)
    t.doesNotThrow(() => new kind(document).validate(), document.kind)
  }
})

t.test('compose and Kubernetes', async (t) => {
  const known = new Set((await textOf('.env.example')).match(/^[A-Z_]+(?==)/gm))
  const assertKnown = (names: string[], where: string) =>
    t.same(
      names.filter((name) => !known.has(name)),
      [],
      where,
    )

  for (const file of ['deploy/compose.yaml', 'deploy/compose.cluster.yaml']) {
    const [{ services, volumes, secrets = {} }] = await documentsOf(file)
    for (const [name, service] of Object.entries<Answer>(services)) {
      for (const mount of service.volumes) {
        const [source] = mount.split(':')
        t.ok(source.startsWith('./') || source in volumes, `${name}: ${source}`)
      }
      for (const secret of service.secrets ?? []) t.ok(secret in secrets, `${name}: ${secret}`)
      for (const other of Object.keys(service.depends_on ?? {})) t.ok(other in services, `${name}: ${other}`)
      if (service.image === 'storage-proxy') {
        assertKnown(Object.keys(service.environment), `${file}: ${name}`)
        t.equal(service.stop_grace_period, '45s')
      }
    }
  }

  const objects = await documentsOf('deploy/kubernetes.yaml')
  const ofKind = (kind: string) => objects.filter((object) => object.kind === kind)
  const [{ spec }] = ofKind('Deployment')
  const { labels } = spec.template.metadata
  const [container] = spec.template.spec.containers
  const selectors = [
    spec.selector.matchLabels,
    ...ofKind('Service').map((service) => service.spec.selector),
    ofKind('PodDisruptionBudget')[0].spec.selector.matchLabels,
  ]
  for (const selector of selectors) t.match(labels, selector)
  assertKnown(
    container.env.map(({ name }: Answer) => name),
    'Kubernetes',
  )
  const [{ stringData }] = ofKind('Secret')
  for (const { name, value } of container.env) {
    if (name.endsWith('_FILE')) t.ok(value.split('/').at(-1) in stringData, value)
  }
  const ports = container.ports.map(({ name }: Answer) => name)
  for (const service of ofKind('Service')) t.ok(ports.includes(service.spec.ports[0].targetPort))
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    t.ok(ports.includes(container[probe].httpGet.port), probe)
  }
  const { volumes } = spec.template.spec
  t.same(
    container.volumeMounts.map(({ name }: Answer) => name),
    volumes.map(({ name }: Answer) => name),
  )
})

t.test('nginx in front of several processes', needing('nginx'), async (t) => {
  const listen = `127.0.0.1:${await freePort()}`
  const manage = `127.0.0.1:${await freePort()}`
  const env = { WORKERS: '2', MANAGER_PORT: '0', PUBLIC_URL: `http://${listen}` }
  const server = await startServer(t, { env })
  t.teardown(() => server.end())
  const accessLog = join(server.dataDir, 'access.log')
  const proxies = [{ clients: new URL(server.url).host, manager: new URL(server.managerUrl).host }]
  const configuration = await deployedConfiguration({ proxies, listen, manage, accessLog })
  await startNginx(t, `http://${listen}`, configuration)
  // The manager's calls go through nginx too.
  t.equal((await fetch(`http://${manage}/readyz`)).status, 200)

  const folder = await server.createFolder()
  const url = await server.sign(folder, 'large.bin', { operation: 'upload' })
  t.ok(url.startsWith(`http://${listen}/`))
  const body = randomBytes(5_000_000)
  const put = await fetch(url, { method: 'PUT', body, headers: { [requestIdHeader]: 'through-nginx' } })
  t.equal(put.status, 201)
  t.equal(put.headers.get(requestIdHeader), 'through-nginx')

  const got = await fetch(await server.sign(folder, 'large.bin'))
  t.ok(Buffer.from(await got.arrayBuffer()).equals(body))
  const made = got.headers.get(requestIdHeader)
  t.match(made, /^[0-9a-f]{32}$/)
  const lines = await eventually(async () => {
    const lines = (await readFile(accessLog, 'utf8')).trim().split('\n')
    return lines.some((line) => line.includes(String(made))) && lines
  })
  const log = lines.map((line) => JSON.parse(line))
  t.ok(log.some(({ request_id, method }) => request_id === 'through-nginx' && method === 'PUT'))
  t.ok(server.linesOf(String(made)).length > 0)
  t.notMatch(lines.join('\n'), new URL(url).searchParams.get('token'))
  t.equal((await fetch(`http://${listen}/volumes`)).status, 404, 'no manager API for clients')
})
