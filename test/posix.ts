import { randomUUID } from 'node:crypto'
import { readdirSync, readlinkSync } from 'node:fs'
import { createPosixBackend } from '../backends/posix/backend.ts'
import { Layout } from '../backends/posix/layout.ts'
import { eventually, temporaryDirectory } from './server.ts'

type Backend = ReturnType<typeof createPosixBackend>

export const call = { signal: new AbortController().signal }

/** The posix backend by itself, on a directory of the test. */
export class Posix {
  readonly backend: Backend
  readonly layout: Layout

  constructor(backend: Backend, layout: Layout) {
    this.backend = backend
    this.layout = layout
  }

  async createFolder(): Promise<{ id: string; path: string }> {
    const id = randomUUID()
    await this.backend.createFolder(id, call)
    return { id, path: this.layout.folder(id) }
  }

  /** Clones, and gives the progress and the checkpoints that it was told. */
  async clone(from: string, to: string, checkpoint?: unknown, signal = call.signal) {
    const checkpoints: unknown[] = []
    const progress: number[] = []
    const cloned = await this.backend.clone(from, to, {
      signal,
      checkpoint,
      onProgress: ({ files }) => progress.push(files),
      onCheckpoint: (value) => checkpoints.push(value),
    })
    return { cloned, checkpoints, progress }
  }

  /** The files that this process holds open below the root of the volume, after it has had time to close them. */
  async openFiles(): Promise<string[]> {
    await eventually(() => this.#openFiles().length === 0, 2000).catch(() => {})
    return this.#openFiles()
  }

  #openFiles(): string[] {
    return readdirSync('/proc/self/fd')
      .map(linkOf)
      .filter((path) => path.startsWith(this.layout.root))
  }
}

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

export async function posixIn(root: string): Promise<Posix> {
  const layout = await Layout.create(root)
  const ownership = { uid: undefined, gid: undefined, fileMode: 0o644, directoryMode: 0o755, extended: false }
  return new Posix(createPosixBackend(layout, ownership), layout)
}

export async function startPosix(t: { teardown(fn: () => unknown): void }): Promise<Posix> {
  return posixIn(await temporaryDirectory(t))
}
