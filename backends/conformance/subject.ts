import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { Backend, Call, Entry, ListOptions, OpenFile, WriteOptions, Written } from '../backend.ts'
import type { BackendError } from '../errors.ts'
import { orderKey } from '../order.ts'
import { parsePath } from '../path.ts'
import { inChunks } from './bytes.ts'

/** Makes a backend for the suite; when called again, another one over the same storage. */
export type Open = () => Promise<Backend>

export type Case = (subject: Subject) => Promise<void>
export type Cases = Record<string, Case>

/** For calls that nobody aborts. */
export const call: Call = { signal: new AbortController().signal }

/** Options of a listing, with the path as text. */
type Listing = Partial<Omit<ListOptions, 'path'>> & { path?: string }

/** The backend under test, with a vfolder of the case's own. */
export class Subject {
  readonly backend: Backend
  readonly folder: string
  /** So many entries that no single request of the storage lists or removes them. */
  readonly many: number
  readonly #open: Open
  readonly #opened: Backend[]
  readonly #folders: string[]

  private constructor(open: Open, backend: Backend, folder: string, many: number) {
    this.#open = open
    this.many = many
    this.backend = backend
    this.folder = folder
    this.#opened = [backend]
    this.#folders = [folder]
  }

  /** Runs a case, and removes what it made. */
  static async with(open: Open, many: number, run: Case): Promise<void> {
    const backend = await open()
    const folder = newName(backend)
    const subject = new Subject(open, backend, folder, many)
    try {
      await backend.createFolder(folder, call)
      await run(subject)
    } catch (error) {
      // The failure of the case counts, not that removing its rest failed too.
      await subject.#end().catch(() => {})
      throw error
    }
    await subject.#end()
  }

  async #end(): Promise<void> {
    for (const folder of this.#folders) await this.backend.removeFolder(folder, call)
    for (const opened of this.#opened) await opened.close()
  }

  /** Another backend over the same storage, as after a restart or in another process. */
  async reopen(): Promise<Backend> {
    const backend = await this.#open()
    this.#opened.push(backend)
    return backend
  }

  async newFolder(): Promise<string> {
    const folder = newName(this.backend)
    this.#folders.push(folder)
    await this.backend.createFolder(folder, call)
    return folder
  }

  write(path: string, content: string | Buffer, options: Partial<WriteOptions> = {}): Promise<Written> {
    const bytes = Buffer.from(content)
    return this.backend.write(this.folder, parsePath(path), inChunks(bytes), {
      ...call,
      size: bytes.length,
      ...options,
    })
  }

  stat(path: string): Promise<Entry> {
    return this.backend.stat(this.folder, parsePath(path), call)
  }

  async bytes(path: string, folder = this.folder): Promise<Buffer> {
    return bytesOf(await this.backend.read(folder, parsePath(path), call))
  }

  async text(path: string, folder = this.folder): Promise<string> {
    return (await this.bytes(path, folder)).toString()
  }

  entries({ path, ...options }: Listing = {}, folder = this.folder): Promise<Entry[]> {
    const inside = path === undefined ? {} : { path: parsePath(path) }
    return Array.fromAsync(this.backend.list(folder, { ...call, ...options, ...inside }))
  }

  /** The keys that a listing is sorted by: paths, those of directories with a trailing `/`. */
  async keys(options: Listing = { recursive: true }, folder = this.folder): Promise<string[]> {
    return (await this.entries(options, folder)).map(orderKey)
  }
}

/** Of a vfolder that is nowhere yet; by a scope of its own, where the storage keeps vfolders by these. */
export function newName(backend: Backend): string {
  const [id, scope] = [randomUUID(), `user:${randomUUID()}`]
  if (backend.folderOf === undefined) return id
  return backend.folderOf(id, scope) ?? assert.fail(`a vfolder of the scope ${scope} has no name`)
}

/** Reads an open file, or a part of it, and closes it. */
export async function bytesOf(file: OpenFile, range = { start: 0, end: file.entry.size }): Promise<Buffer> {
  try {
    return await readRange(file, range)
  } finally {
    file.close()
  }
}

export async function readRange(file: OpenFile, range: { start: number; end: number }): Promise<Buffer> {
  const chunks: Buffer[] = []
  // Copied, since the memory of a chunk is used again for the next.
  for await (const chunk of file.chunks(range)) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

/** The call must reject with an error of one of these classes. */
export async function assertFails(result: Promise<unknown>, ...classes: (typeof BackendError)[]): Promise<void> {
  const names = classes.map(({ name }) => name).join(' or ')
  const outcome = await result.then(
    () => undefined,
    (error: unknown) => ({ error }),
  )
  if (outcome === undefined) assert.fail(`the call was to be refused with ${names} and succeeded`)
  if (classes.some((type) => outcome.error instanceof type)) return
  assert.fail(`the call was to be refused with ${names}, not with ${outcome.error}`)
}

/** Does `work` for each item, a few at a time. */
export async function forEach<T>(items: Iterable<T>, work: (item: T) => Promise<unknown>): Promise<void> {
  const rest = items[Symbol.iterator]()
  const worker = async () => {
    for (let next = rest.next(); !next.done; next = rest.next()) await work(next.value)
  }
  await Promise.all(Array.from({ length: 16 }, worker))
}
