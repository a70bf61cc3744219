import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { onPostgres } from './database.ts'
import { databaseUrl, dropDatabase } from './postgres/index.ts'

export const managerToken = 'a-manager-token-for-tests'
export const signingKey = 'a-signing-key-for-tests-of-32-bytes'

const serverFile = fileURLToPath(new URL('../server.ts', import.meta.url))
/** Names the service in a few files, which `npm test` makes; plugins of third parties would import ours a second time. */
export const bundleVariable = 'TEST_SERVER_BUNDLE'
/** As `npm start` has it; each start costs a quarter less. */
export const compileCache = fileURLToPath(new URL('../node_modules/.cache/node', import.meta.url))

/** What a test gives to be told when it ends; tap's `t` is one. */
export interface Teardown {
  teardown(fn: () => unknown): void
}

/** A JSON answer; a test that reads a member that is not there fails on its value. */
// biome-ignore lint/suspicious/noExplicitAny: every shape that the API answers
export type Answer = any

export interface LogLine {
  level: number
  msg: string
  request_id?: string
  [field: string]: unknown
}

export interface RawAnswer {
  status: number
  headers: Headers
  body: string
}

/** A service of our own process: the real one, listening on a port of its own. */
export class Server {
  readonly process: ChildProcess
  readonly dataDir: string
  readonly url: string
  readonly managerUrl: string
  readonly #output: { text: string }
  /** Of the output; who waits for a line asks again and again. */
  readonly #parsed: { end: number; lines: LogLine[] } = { end: 0, lines: [] }

  constructor(child: ChildProcess, dataDir: string, output: { text: string }) {
    this.process = child
    this.dataDir = dataDir
    this.#output = output
    const listening = /listening at (http:\/\/[^"]+)/g
    const urls = [...output.text.matchAll(listening)].map((match) => match[1]!)
    this.url = urls.at(-1)!
    this.managerUrl = urls[0]!
  }

  /** Standard output, line by line as it was written. */
  rawLines(): string[] {
    return this.#output.text.split('\n').filter((line) => line !== '')
  }

  lines(): LogLine[] {
    const end = this.#output.text.lastIndexOf('\n') + 1
    const news = this.#output.text.slice(this.#parsed.end, end).split('\n')
    for (const line of news) if (line.startsWith('{')) this.#parsed.lines.push(JSON.parse(line))
    this.#parsed.end = Math.max(this.#parsed.end, end)
    return [...this.#parsed.lines]
  }

  linesOf(requestId: string): LogLine[] {
    return this.lines().filter((line) => line.request_id === requestId)
  }

  /** Waits until the log has a line that fits. */
  async logged(fits: (line: LogLine) => boolean, milliseconds = 60_000): Promise<LogLine> {
    return eventually(() => this.lines().find(fits), milliseconds)
  }

  /**
   * Waits until the counts that a start begins with have ended, one a volume. They might find what a test puts into a
   * volume by itself.
   */
  async firstCount(): Promise<void> {
    const { volumes } = await this.ask('GET', '/volumes')
    await eventually(async () => {
      const { jobs } = await this.ask('GET', '/jobs?kind=sync-quotas')
      return jobs.length >= volumes.length && jobs.every((job: Answer) => job.finishedAt !== null)
    })
  }

  /** A call as the manager; a body that is an object goes as JSON. */
  async manager(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Response> {
    const json = body !== undefined && !(body instanceof FormData)
    return fetch(this.managerUrl + path, {
      method,
      headers: {
        authorization: `Bearer ${managerToken}`,
        ...(json && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: json ? JSON.stringify(body) : (body as FormData) }),
    })
  }

  /** Sends bytes as they are, which no client tidied up, and reads the answer until the server closes. */
  async raw(...parts: (string | Uint8Array)[]): Promise<RawAnswer> {
    const { hostname, port } = new URL(this.managerUrl)
    const socket = connect(Number(port), hostname)
    socket.write(Buffer.concat(parts.map((part) => Buffer.from(part))))
    const answer = await text(socket)
    const end = answer.indexOf('\r\n\r\n')
    const head = answer.slice(0, end).split('\r\n')
    const headers = new Headers(
      head.slice(1).map((line): [string, string] => [line.split(': ')[0]!, line.split(': ')[1]!]),
    )
    return { status: Number(head[0]!.split(' ')[1]), headers, body: answer.slice(end + 4) }
  }

  /** Like `manager`, for an answer that must be the expected one. */
  async ask(method: string, path: string, body?: object): Promise<Answer> {
    const response = await this.manager(method, path, body)
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return text === '' ? {} : JSON.parse(text)
  }

  async createFolder(body: object = {}): Promise<string> {
    return (await this.ask('POST', '/folders', body)).id
  }

  /** Uploads files, given by path and content. */
  async upload(folder: string, files: Record<string, string | Uint8Array<ArrayBuffer>>): Promise<void> {
    await this.ask('POST', `/folders/upload?folder=${folder}`, formOf(files))
  }

  async sign(folder: string, path: string, more: object = {}): Promise<string> {
    const body = { operation: 'download', paths: [path], ...more }
    return (await this.ask('POST', `/folders/${folder}/signed-urls`, body)).signedUrls[0].url
  }

  /** One URL for an archive of these paths, or of the whole vfolder. */
  async signArchive(folder: string, paths: string[] = [], more: object = {}): Promise<string> {
    const body = { operation: 'archive', paths, ...more }
    return (await this.ask('POST', `/folders/${folder}/signed-urls`, body)).signedUrls[0].url
  }

  /** A new vfolder. */
  async files(): Promise<Files> {
    const folder = await this.createFolder()
    return new Files(this, folder, await this.mountOf(folder))
  }

  /** Where the vfolder is on this host. */
  async mountOf(folder: string): Promise<string> {
    return (await this.ask('GET', `/folders/${folder}/mount`)).path
  }

  /** The names in the staging place of the volume `default`. */
  staged(): Promise<string[]> {
    return readdir(join(this.dataDir, 'volumes/default/staging'))
  }

  /** What the process holds open of its volumes, or below another directory. */
  async openFiles(directory = join(this.dataDir, 'volumes')): Promise<string[]> {
    const descriptors = `/proc/${this.process.pid}/fd`
    const links = (await readdir(descriptors)).map((fd) => readlink(join(descriptors, fd)).catch(() => ''))
    return (await Promise.all(links)).filter((path) => path.startsWith(directory))
  }

  /** Ends the process and waits for its exit status. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return this.process.exitCode
    const exited = once(this.process, 'exit')
    this.process.kill(signal)
    const [code] = await exited
    return code
  }
}

/** The files of one vfolder, as the manager sees them. */
export class Files {
  readonly server: Server
  readonly folder: string
  readonly mount: string

  constructor(server: Server, folder: string, mount: string) {
    this.server = server
    this.folder = folder
    this.mount = mount
  }

  upload(files: Record<string, string | Uint8Array<ArrayBuffer>>): Promise<void> {
    return this.server.upload(this.folder, files)
  }

  async post(operation: string, body: object): Promise<[status: number, answer: Answer]> {
    const response = await this.server.manager('POST', `/folders/${this.folder}/files/${operation}`, body)
    return [response.status, await response.json()]
  }

  async stat(path: string): Promise<Answer> {
    const response = await this.server.manager('GET', `/folders/${this.folder}/files/stat?path=${path}`)
    return response.json()
  }

  /** Page after page, as the keys that the order is by. */
  async keys(query: string): Promise<string[][]> {
    const pages: string[][] = []
    let after = ''
    do {
      const { entries, nextCursor } = await this.server.ask('GET', `/folders/${this.folder}/files?${query}${after}`)
      pages.push(entries.map(keyOf))
      after = nextCursor === null ? '' : `&cursor=${nextCursor}`
    } while (after !== '')
    return pages
  }

  async ndjson(query: string): Promise<string[]> {
    const url = `/folders/${this.folder}/files?${query}`
    const response = await this.server.manager('GET', url, undefined, { accept: 'application/x-ndjson' })
    const text = await response.text()
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => keyOf(JSON.parse(line)))
  }

  async usage(): Promise<{ files: number; bytes: number }> {
    const { files, bytes } = (await this.server.ask('GET', `/folders/${this.folder}`)).usage
    return { files, bytes }
  }
}

/** A form with files, given by path and content. */
export function formOf(files: Record<string, string | Uint8Array<ArrayBuffer>>): FormData {
  const form = new FormData()
  for (const [name, content] of Object.entries(files)) form.append('file', new Blob([content]), name)
  return form
}

/** The key that a listing is sorted by. */
export function keyOf({ path, type }: Answer): string {
  return type === 'directory' ? `${path}/` : path
}

/** The job as it is when it has ended. */
export function ended(server: Server, job: string, milliseconds = 60_000): Promise<Answer> {
  return eventually(async () => {
    const answer = await server.ask('GET', `/jobs/${job}`)
    return answer.finishedAt !== null && answer
  }, milliseconds)
}

export interface StartOptions {
  env?: Record<string, string>
  /** Kept after the server, for the next one on it. */
  dataDir?: string
  /** Runs the server through this command, such as `unshare`. */
  through?: string[]
  /** How long it may take to start. */
  startMilliseconds?: number
  /** Options of Node. */
  nodeOptions?: string[]
  /** The working directory. */
  cwd?: string
}

export async function startServer(t: Teardown, options: StartOptions = {}): Promise<Server> {
  const dataDir = options.dataDir ?? (await temporaryDirectory(t))
  const isPrepared = onPostgres && options.env?.DATABASE_URL === undefined
  const database = isPrepared && { DATABASE_URL: await databaseUrl(dataDir) }
  if (isPrepared && options.dataDir === undefined) t.teardown(() => dropDatabase(dataDir))
  // tap would have the server load a module of its own, which takes a sixth of the start.
  const bundle = options.env?.BACKEND_PLUGINS === undefined ? process.env[bundleVariable] : undefined
  const node = [process.execPath, ...(options.nodeOptions ?? []), bundle ?? serverFile]
  const command = [...(options.through ?? []), 'env', '-u', 'NODE_OPTIONS', ...node]
  const child = spawn(command[0]!, command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: compileCache,
      PORT: '0',
      DATA_DIR: dataDir,
      MANAGER_TOKENS: managerToken,
      SIGNING_KEYS: signingKey,
      ...database,
      ...options.env,
    },
  })
  // Rejects where the command cannot be started; an error that nobody listens for would abort the whole run.
  await once(child, 'spawn')
  const output = { text: '' }
  for (const stream of [child.stdout, child.stderr]) {
    // By whole lines: what one stream has must not stand in a line of the other.
    let rest = ''
    stream.setEncoding('utf8').on('data', (text: string) => {
      const end = text.lastIndexOf('\n') + 1
      if (end > 0) output.text += rest + text.slice(0, end)
      rest = end > 0 ? text.slice(end) : rest + text
    })
    stream.on('end', () => {
      output.text += rest
    })
  }
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  })
  await eventually(() => {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}: ${output.text}`)
    return output.text.includes('Server listening at')
  }, options.startMilliseconds ?? 60_000)
  return new Server(child, dataDir, output)
}

export async function temporaryDirectory(t: Teardown): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'storage-proxy-test-'))
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }))
  return directory
}

/** Asks again and again until there is an answer. */
export async function eventually<T>(
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  milliseconds = 60_000,
): Promise<T> {
  const end = Date.now() + milliseconds
  for (;;) {
    const answer = await ask()
    if (answer !== undefined && answer !== false) return answer
    if (Date.now() > end) throw new Error(`not so within ${milliseconds} ms: ${ask}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
