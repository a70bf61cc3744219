import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { Bench } from './row.ts'

const managerToken = 'a-manager-token-for-the-bench'

/** The service as `npm start` runs it, its log thrown away. */
export interface Service {
  url: string
  createFolder(volume?: string): Promise<string>
  /** Where the vfolder's files are. */
  directoryOf(folder: string): Promise<string>
  signDownloads(folder: string, paths: string[]): Promise<string[]>
  /** For all that is in the vfolder. */
  signArchive(folder: string, archive: string): Promise<string>
  signUploads(folder: string, paths: string[]): Promise<string[]>
  authorization: string
  /** Counts what is in the vfolder, to its end. */
  sync(folder: string): Promise<Job>
  /** To its end. */
  clone(folder: string): Promise<string>
  copy(folder: string, from: string, to: string): Promise<void>
  /** With all that is in it, to its end. */
  removeFolder(folder: string): Promise<void>
  /** The most memory that was resident so far (VmHWM of proc_pid_status(5)). */
  peakMiB(): Promise<number>
  /** What the process has used of it so far, with all its threads (proc_pid_stat(5)). */
  processorSeconds(): Promise<number>
}

const root = new URL('../', import.meta.url)
/** `getconf CLK_TCK`, which Linux has for all processors. */
const ticksPerSecond = 100
const Manifest = Type.Object({ scripts: Type.Object({ start: Type.String() }) })
const Folder = Type.Object({ id: Type.String() })
const Job = Type.Object({
  state: Type.String(),
  createdAt: Type.String(),
  startedAt: Type.Union([Type.String(), Type.Null()]),
})
type Job = Static<typeof Job>
const Started = Type.Object({ job: Folder })
const Clone = Type.Object({ job: Folder, folder: Folder })
const Mount = Type.Object({ path: Type.String() })
const Signed = Type.Object({ signedUrls: Type.Array(Type.Object({ url: Type.String() })) })

/** With the defaults of its configuration, but for what `variables` has. */
export async function startService(bench: Bench, variables: NodeJS.ProcessEnv = {}): Promise<Service> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const { env, args } = await startCommand()
  const child = start(bench, args, {
    ...env,
    PORT: String(port),
    DATA_DIR: join(bench.directory, 'data'),
    MANAGER_TOKENS: managerToken,
    ...variables,
  })
  await answering(`${url}/livez`)
  const authorization = `Bearer ${managerToken}`
  const ask = async (method: string, path: string, body?: object): Promise<unknown> => {
    const response = await fetch(url + path, {
      method,
      headers: { authorization, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
    })
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
    return response.json()
  }
  const sign = async (folder: string, body: object): Promise<string[]> => {
    const answer = Value.Parse(Signed, await ask('POST', `/folders/${folder}/signed-urls`, body))
    return answer.signedUrls.map((signed) => signed.url)
  }
  const ended = async (id: string): Promise<Job> => {
    for (;;) {
      const job = Value.Parse(Job, await ask('GET', `/jobs/${id}`))
      const { state } = job
      if (state === 'succeeded') return job
      if (state !== 'queued' && state !== 'running') throw new Error(`the job ${id} ${state}`)
      await sleep(50)
    }
  }
  return {
    url,
    authorization,
    createFolder: async (volume) =>
      Value.Parse(Folder, await ask('POST', '/folders', volume === undefined ? {} : { volume })).id,
    directoryOf: async (folder) => Value.Parse(Mount, await ask('GET', `/folders/${folder}/mount`)).path,
    signDownloads: (folder, paths) => sign(folder, { operation: 'download', paths, expiresIn: 3600 }),
    signArchive: async (folder, archive) => {
      const [url = ''] = await sign(folder, { operation: 'archive', paths: [], archive, expiresIn: 3600 })
      return url
    },
    signUploads: (folder, paths) => sign(folder, { operation: 'upload', paths, expiresIn: 3600 }),
    sync: async (folder) => ended(Value.Parse(Started, await ask('POST', `/folders/${folder}/sync`)).job.id),
    clone: async (source) => {
      const { job, folder } = Value.Parse(Clone, await ask('POST', `/folders/${source}/clone`, {}))
      await ended(job.id)
      return folder.id
    },
    copy: async (folder, from, to) => {
      const answer = await ask('POST', `/folders/${folder}/files/copy`, { from, to })
      if (Value.Check(Started, answer)) await ended(answer.job.id)
    },
    removeFolder: async (folder) => {
      await ended(Value.Parse(Started, await ask('DELETE', `/folders/${folder}`)).job.id)
    },
    processorSeconds: async () => {
      const stat = await readFile(`/proc/${child.pid}/stat`, 'utf8')
      const [user, system] = stat.slice(stat.lastIndexOf(')')).split(' ').slice(12, 14).map(Number)
      return ((user ?? 0) + (system ?? 0)) / ticksPerSecond
    },
    peakMiB: async () => {
      const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
      return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024
    },
  }
}

/** `npm start`, with its paths made absolute. */
async function startCommand(): Promise<{ env: NodeJS.ProcessEnv; args: string[] }> {
  const manifest: unknown = JSON.parse(await readFile(fileURLToPath(new URL('package.json', root)), 'utf8'))
  const words = Value.Parse(Manifest, manifest).scripts.start.split(' ')
  const node = words.indexOf('node')
  const path = (word: string) => (/^[^-].*[/.]/.test(word) ? fileURLToPath(new URL(word, root)) : word)
  return {
    env: Object.fromEntries(
      words
        .slice(0, node)
        .filter((word) => word.includes('='))
        .map((word) => [word.split('=')[0], path(word.split('=')[1] ?? '')]),
    ),
    args: words.slice(node + 1).map(path),
  }
}

/** Starts a Node program that ends with the row; what it prints goes nowhere. */
export function start(bench: Bench, args: string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const sink = openSync('/dev/null', 'w')
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', sink, 'inherit'],
    env: { PATH: process.env.PATH, ...env },
  })
  closeSync(sink)
  bench.cleanup(() => stop(child))
  return child
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  await exited
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

export async function answering(url: string): Promise<void> {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    const response = await fetch(url).catch(() => undefined)
    await response?.body?.cancel()
    if (response !== undefined) return
    await sleep(50)
  }
  throw new Error(`${url} does not answer`)
}
