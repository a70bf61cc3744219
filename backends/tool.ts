import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { basename } from 'node:path'
import type { Call } from './backend.ts'
import { ToolFailed } from './errors.ts'
import { Pool } from './pool.ts'

/** More than an answer has; what a program writes beyond is not read. */
const usualOutputBytes = 1024 * 1024
/** How much of the end of its messages is kept. */
const keptMessageBytes = 4096
/** How many run at once in this process; others wait in order. */
const mostAtOnce = 32
const sharedPlaces = new Pool(() => ({}), mostAtOnce)
/** A mount that hangs holds what runs on it, and so no places but its own. */
const ownPlaces = new WeakMap<object, Pool<object>>()
/** How long a program that is told to end may tidy up, and then how long its end is waited for. */
const graceMilliseconds = 2000

export interface Tool {
  /** A path, or a name that is looked up in the PATH of `env`. There is no shell. */
  file: string
  args: readonly string[]
  /** All that it gets: nothing is inherited, since the service has secrets there. */
  env: Record<string, string>
  cwd?: string
  /** What it reads from its standard input. */
  input?: string
}

export interface ToolLimits extends Call {
  timeoutSeconds: number
  mostOutputBytes?: number
  /** Of the mount that the program is about, where that may hang. */
  share?: object | undefined
}

export interface Ended {
  /** How it ended by itself. */
  status: number
  stdout: string
  /** The end of it. */
  stderr: string
}

/**
 * Runs a program of the storage to its end. One that takes longer than `timeoutSeconds`, writes more than an answer has,
 * or is no longer wanted, is ended with all that it has started.
 * @throws {ToolFailed} when it cannot be started, or did not end by itself
 */
export async function runTool(tool: Tool, limits: ToolLimits): Promise<Ended> {
  const places = placesFor(limits.share)
  const place = await places.acquire(limits.signal)
  try {
    return await run(tool, limits)
  } finally {
    places.release(place)
  }
}

function placesFor(share: object | undefined): Pool<object> {
  if (share === undefined) return sharedPlaces
  const places = ownPlaces.get(share) ?? new Pool(() => ({}), mostAtOnce)
  ownPlaces.set(share, places)
  return places
}

async function run(
  tool: Tool,
  { timeoutSeconds, signal, mostOutputBytes = usualOutputBytes, share }: ToolLimits,
): Promise<Ended> {
  signal.throwIfAborted()
  // A group of its own, so that what it has started ends with it.
  const child = start(tool, share !== undefined)
  const name = nameOf(tool)
  const ending = new Ending(child, name)
  const timer = setTimeout(
    () => ending.giveUp(new ToolFailed(`${name} did not end within ${timeoutSeconds} s`)),
    timeoutSeconds * 1000,
  )
  const abort = () => ending.giveUp(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  const stdout = keepAll(child, mostOutputBytes, () =>
    ending.giveUp(new ToolFailed(`${name} wrote more than ${mostOutputBytes} bytes`)),
  )
  const stderr = keepEnd(child)
  // It need not read what it is told.
  child.stdin.on('error', () => {})
  child.stdin.end(tool.input ?? '')
  try {
    const status = await ending.status
    return { status, stdout: stdout(), stderr: stderr() }
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
    child.stdout.destroy()
    child.stderr.destroy()
  }
}

/** As callers may hear it, who are not told where things are on the host. */
function nameOf({ file }: Tool): string {
  return basename(file)
}

function start(tool: Tool, mayHang: boolean): ChildProcessWithoutNullStreams {
  const { file, args, env, cwd } = tool
  const how = { env, stdio: 'pipe', detached: true } as const
  try {
    if (cwd === undefined) return spawn(file, args, how)
    // The event loop waits for a new process to change its directory, and so would the whole service.
    if (mayHang) return spawn('/bin/sh', ['-c', 'cd "$0" && exec "$@"', cwd, file, ...args], how)
    return spawn(file, args, { ...how, cwd })
  } catch (error) {
    throw notStarted(nameOf(tool), error)
  }
}

function notStarted(name: string, cause: unknown): ToolFailed {
  const code = cause instanceof Error && 'code' in cause ? ` (${cause.code})` : ''
  return new ToolFailed(`${name} cannot be started${code}`, { cause })
}

/** How a program ends: by itself, or because it is given up. */
class Ending {
  readonly status: Promise<number>
  readonly #child: ChildProcessWithoutNullStreams
  #reason: { error: unknown } | undefined
  #reject: (error: unknown) => void = () => {}

  constructor(child: ChildProcessWithoutNullStreams, name: string) {
    this.#child = child
    this.status = new Promise((resolve, reject) => {
      this.#reject = reject
      const end = (status: number | null, signal: NodeJS.Signals | null) => {
        if (this.#reason !== undefined) reject(this.#reason.error)
        else if (status === null) reject(new ToolFailed(`${name} was ended by ${signal}`))
        else resolve(status)
      }
      child.once('error', (cause) => reject(notStarted(name, cause)))
      child.once('close', end)
      // What it left in the background may hold its output open.
      child.once('exit', (status, signal) => setTimeout(end, graceMilliseconds, status, signal).unref())
    })
  }

  /** Rejects once the program is gone, or does not go. */
  giveUp(error: unknown): void {
    if (this.#reason !== undefined) return
    this.#reason = { error }
    this.#kill('SIGTERM')
    setTimeout(() => this.#kill('SIGKILL'), graceMilliseconds).unref()
    setTimeout(() => this.#reject(error), 2 * graceMilliseconds).unref()
  }

  #kill(signal: NodeJS.Signals): void {
    const { pid } = this.#child
    if (pid === undefined) return
    try {
      process.kill(-pid, signal)
    } catch {
      // All of the group are gone.
    }
  }
}

function keepAll(child: ChildProcessWithoutNullStreams, mostOutputBytes: number, tooMuch: () => void): () => string {
  const chunks: Buffer[] = []
  let bytes = 0
  child.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes <= mostOutputBytes) chunks.push(chunk)
    else tooMuch()
  })
  return () => Buffer.concat(chunks).toString()
}

function keepEnd(child: ChildProcessWithoutNullStreams): () => string {
  let end = Buffer.alloc(0)
  child.stderr.on('data', (chunk: Buffer) => {
    end = Buffer.concat([end, chunk]).subarray(-keptMessageBytes)
  })
  return () => end.toString().trim()
}
