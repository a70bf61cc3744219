import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { configuration } from './configuration.ts'

// Starts a Ceph cluster of one monitor, one manager, one OSD that keeps everything in memory, and its S3 gateway (Debian's
// packages ceph-mon, ceph-mgr, ceph-osd and radosgw); ends it when the process is gone that it was started for.
//
//   node test/ceph/keeper.ts DIRECTORY PID

const [directory = '', pid = ''] = process.argv.slice(2)
const daemons = ['mds', 'radosgw', 'osd', 'mgr', 'mon']
const keys = { accessKeyId: 'testaccesskey', secretAccessKey: 'testsecretkey' }
const config = join(directory, 'ceph.conf')

try {
  const ready = await start()
  await writeFile(join(directory, 'ready'), JSON.stringify(ready))
  await rename(join(directory, 'ready'), join(directory, 'ready.json'))
} catch (error) {
  await writeFile(join(directory, 'failed'), String(error))
}
while (isAlive(Number(pid))) await sleep(500)
for (const daemon of daemons) await stop(daemon)
await rm(directory, { recursive: true, force: true, maxRetries: 10 })

async function start() {
  const [monPort, s3Port] = [await freePort(), await freePort()]
  const fsid = randomUUID()
  const keyring = join(directory, 'keyring')
  for (const place of ['mon', 'osd', 'mgr', 'rgw', 'mds']) await mkdir(join(directory, place))
  await writeFile(config, configuration({ directory, fsid, monPort, s3Port }))

  const monmap = join(directory, 'monmap')
  await run('monmaptool', '--create', '--clobber', '--fsid', fsid, '--addv', 'a', `[v2:127.0.0.1:${monPort}]`, monmap)
  const caps = ['mon', 'osd', 'mgr', 'mds'].flatMap((daemon) => ['--cap', daemon, 'allow *'])
  await run('ceph-authtool', '--create-keyring', keyring, '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *')
  for (const entity of ['client.admin', 'client.rgw', 'osd.0', 'mgr.x', 'mds.m']) {
    await run('ceph-authtool', keyring, '--gen-key', '-n', entity, ...caps)
  }
  await run('ceph-mon', '-c', config, '--mkfs', '-i', 'a', '--monmap', monmap, '--keyring', keyring)
  await run('ceph-mon', '-c', config, '-i', 'a')
  await run('ceph-mgr', '-c', config, '-i', 'x')
  const osd = randomUUID()
  await run('ceph', '-c', config, 'osd', 'new', osd, '0')
  await run('ceph-osd', '-c', config, '-i', '0', '--mkfs', '--osd-uuid', osd)
  await run('ceph-osd', '-c', config, '-i', '0')
  await until(async () => (await run('ceph', '-c', config, 'osd', 'stat')).includes('1 up'))
  await run('radosgw', '-c', config, '-n', 'client.rgw')
  const endpoint = `http://127.0.0.1:${s3Port}`
  await until(async () => (await fetch(endpoint)).ok)
  const pair = [`--access-key=${keys.accessKeyId}`, `--secret-key=${keys.secretAccessKey}`]
  await run('radosgw-admin', '-c', config, 'user', 'create', '--uid=test', '--display-name=test', ...pair)

  const server = { endpoint, region: 'us-east-1', bucket: 'storage-proxy-test', ...keys }
  const client = new S3Client({ ...server, credentials: keys, forcePathStyle: true })
  await until(async () => client.send(new CreateBucketCommand({ Bucket: server.bucket })))
  client.destroy()
  return server
}

async function run(command: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, CEPH_CONF: config }
  const { stdout } = await promisify(execFile)(command, args, { env, timeout: 60_000 })
  return stdout
}

async function until(holds: () => Promise<unknown>): Promise<void> {
  for (const end = Date.now() + 60_000; ; await sleep(200)) {
    const failure = await holds().then(
      (held) => (held ? undefined : new Error(`not so within a minute: ${holds}`)),
      (error: unknown) => error,
    )
    if (failure === undefined) return
    if (Date.now() > end) throw failure
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function stop(daemon: string): Promise<void> {
  const id = Number(await readFile(join(directory, `${daemon}.pid`), 'utf8').catch(() => ''))
  if (!id) return
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!isAlive(id)) return
    process.kill(id, signal)
    for (let waited = 0; waited < 3000 && isAlive(id); waited += 100) await sleep(100)
  }
}

function isAlive(id: number): boolean {
  try {
    return process.kill(id, 0)
  } catch (error) {
    // Another user's.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
