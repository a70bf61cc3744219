import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { eventually, temporaryDirectory } from '../server.ts'
import { searchPath } from '../tools.ts'
import { type Cluster, freePort } from './cluster.ts'
import { password } from './password.ts'

/** PgBouncer refuses to run as root. */
const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

/** PgBouncer in front of a PostgreSQL, set up as docs/scaling.md says. @returns the URL of a database through it */
export async function startPooler(
  t: Test,
  cluster: Cluster,
  mode: 'session' | 'transaction',
): Promise<(database: string) => string> {
  const port = await freePort()
  const directory = await temporaryDirectory(t)
  await chmod(directory, 0o755)
  const file = join(directory, 'pgbouncer.ini')
  const server = `host=127.0.0.1 port=${cluster.port} user=tests password='${password}'`
  const settings = [
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = any',
    `pool_mode = ${mode}`,
    'default_pool_size = 40',
    'ignore_startup_parameters = options,statement_timeout,idle_in_transaction_session_timeout',
  ]
  await writeFile(file, `[databases]\n* = ${server}\n[pgbouncer]\n${settings.join('\n')}\n`)
  const options = { ...nobody, env: { PATH: searchPath }, cwd: directory, stdio: 'ignore' } as const
  const child = spawn('pgbouncer', [file], options)
  await once(child, 'spawn')
  t.teardown(async () => {
    const exited = once(child, 'exit')
    if (child.exitCode === null && child.kill('SIGKILL')) await exited
  })
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(`PgBouncer ended with ${child.exitCode}`)
    const socket = connect(port, '127.0.0.1')
    const isOpen = await Promise.race([once(socket, 'connect'), once(socket, 'error')]).then(
      () => true,
      () => false,
    )
    socket.destroy()
    return isOpen
  })
  return (database) => `postgres://tests@127.0.0.1:${port}/${database}`
}
