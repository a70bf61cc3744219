import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'
import { searchPath } from '../tools.ts'
import { password } from './password.ts'

/** PostgreSQL refuses to run as root; this one is on every Debian. */
const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}
const env = { PATH: searchPath, LC_ALL: 'C.UTF-8' }

/** A PostgreSQL of Debian's package, with its files in a directory of its own. */
export class Cluster {
  readonly directory: string
  readonly port: number
  #process: ChildProcess | undefined

  private constructor(directory: string, port: number) {
    this.directory = directory
    this.port = port
  }

  /** Its text is sorted as people do it, unlike its bytes. */
  static async create(directory: string): Promise<Cluster> {
    await mkdir(directory, { recursive: true })
    const passwords = join(directory, 'password')
    await writeFile(passwords, password)
    if (nobody.uid !== undefined) {
      await chmod(dirname(directory), 0o711)
      await chown(directory, nobody.uid, nobody.gid)
      await chown(passwords, nobody.uid, nobody.gid)
    }
    const locale = ['--locale=C.UTF-8', '--locale-provider=icu', '--icu-locale=en-US', '--encoding=UTF8']
    const auth = ['--username=tests', '--auth=scram-sha-256', `--pwfile=${passwords}`, '--no-sync']
    const options = { ...nobody, env, cwd: directory }
    await promisify(execFile)('initdb', [join(directory, 'data'), ...locale, ...auth], options)
    return new Cluster(directory, await freePort())
  }

  url(database: string): string {
    return `postgres://tests:${encodeURIComponent(password)}@127.0.0.1:${this.port}/${database}`
  }

  /** @param settings further ones, such as `max_connections=10` */
  async start(...settings: string[]): Promise<void> {
    const all = [
      `port=${this.port}`,
      'listen_addresses=127.0.0.1',
      `unix_socket_directories=${this.directory}`,
      'max_connections=300',
      'shared_buffers=32MB',
      'fsync=off',
      'logging_collector=off',
      ...settings,
    ]
    const args = ['-D', join(this.directory, 'data'), ...all.flatMap((setting) => ['-c', setting])]
    const child = spawn('postgres', args, { ...nobody, env, cwd: this.directory, stdio: ['ignore', 'ignore', 'pipe'] })
    await once(child, 'spawn')
    let log = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      log = (log + text).slice(-10_000)
    })
    this.#process = child
    for (const end = Date.now() + 60_000; ; await sleep(50)) {
      if (child.exitCode !== null) throw new Error(`PostgreSQL ended: ${log}`)
      if (await this.query('postgres', 'select 1').catch(() => undefined)) return
      if (Date.now() > end) throw new Error(`PostgreSQL does not start: ${log}`)
    }
  }

  /** As a failover or a restart does it: open connections are cut. */
  async stop(signal: 'SIGINT' | 'SIGQUIT' = 'SIGINT'): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }

  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  async query(database: string, sql: string): Promise<any[]> {
    const client = new pg.Client({ connectionString: this.url(database) })
    // The query fails by itself.
    client.on('error', () => {})
    await client.connect()
    try {
      return (await client.query(sql)).rows
    } finally {
      await client.end()
    }
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
