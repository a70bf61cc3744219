import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { eventually, temporaryDirectory } from './server.ts'

interface Teardown {
  teardown(fn: () => unknown): void
}

/** The part of nginx's `http` block that a page of the documentation gives. */
export async function documentedConfiguration(page: string): Promise<string> {
  const text = await readFile(new URL(`../docs/${page}`, import.meta.url), 'utf8')
  const [, block] = /^```nginx\n(.*?)^```$/ms.exec(text) ?? []
  if (block === undefined) throw new Error(`${page} has no configuration of nginx`)
  return block
}

interface Deployed {
  /** Where each proxy listens for clients and for the manager, as `HOST:PORT`. */
  proxies: { clients: string; manager: string }[]
  /** Where nginx does. */
  listen: string
  manage: string
  accessLog: string
}

/** The configuration in `deploy/`, with the places of a test. */
export async function deployedConfiguration({ proxies, listen, manage, accessLog }: Deployed): Promise<string> {
  const text = await readFile(new URL('../deploy/nginx.conf', import.meta.url), 'utf8')
  const at = (index: string) => proxies[(Number(index) - 1) % proxies.length]!
  return text
    .replaceAll(/proxy-(\d):6021/g, (_, index) => at(index).clients)
    .replaceAll(/proxy-(\d):6022/g, (_, index) => at(index).manager)
    .replaceAll('listen 80;', `listen ${listen};`)
    .replaceAll('listen 6022;', `listen ${manage};`)
    .replaceAll('/var/log/nginx/access.log', accessLog)
}

/** Debian's nginx with `http` as the essence of its configuration; it has to listen at `url`. */
export async function startNginx(t: Teardown, url: string, http: string): Promise<{ errors(): Promise<string> }> {
  const directory = await temporaryDirectory(t)
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  )
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  await writeFile(
    join(directory, 'nginx.conf'),
    `${user} daemon off; pid ${directory}/pid; events {} http { access_log off; ${paths.join(' ')}\n${http}\n}`,
  )
  const log = join(directory, 'error.log')
  const child = spawn('nginx', ['-c', join(directory, 'nginx.conf'), '-e', log], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  })
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text
  })
  child.on('error', (error) => {
    complaint += error.message
  })
  t.teardown(async () => {
    if (child.pid === undefined || child.exitCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGTERM')
    await exited
  })
  await eventually(async () => {
    if (child.pid === undefined || child.exitCode !== null) throw new Error(`nginx did not start: ${complaint}`)
    const response = await fetch(url).catch(() => undefined)
    await response?.body?.cancel()
    return response !== undefined
  }, 30_000)
  return { errors: () => readFile(log, 'utf8') }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return address.port
}
