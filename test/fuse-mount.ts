import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { eventually, type Teardown, temporaryDirectory } from './server.ts'

/** A real mount of a user-space filesystem, which shows a directory, and may go away, hang, and come back. */
export class FuseMount {
  /** The directory that it shows. */
  readonly source: string
  /** Where it is mounted. */
  readonly point: string
  readonly #daemons: ChildProcess[] = []
  readonly #command: (fuse: FuseMount) => string[]

  constructor(directory: string, command: (fuse: FuseMount) => string[]) {
    this.#command = command
    this.source = join(directory, 'source')
    this.point = join(directory, 'point')
  }

  async mount(): Promise<void> {
    const [program = '', ...args] = this.#command(this)
    const daemon = spawn(program, args, { stdio: 'ignore' })
    await once(daemon, 'spawn')
    this.#daemons.push(daemon)
    await eventually(() => this.#isMounted())
  }

  /** Takes the mount away from its place; whoever has something open on it goes on with that. */
  takeAway(): void {
    execFileSync('fusermount3', ['-u', '-z', this.point])
  }

  hang(): void {
    this.#signal('SIGSTOP')
  }

  answer(): void {
    this.#signal('SIGCONT')
  }

  async end(): Promise<void> {
    while (await this.#isMounted()) this.takeAway()
    // What still waits for one of them is answered by its end.
    for (const daemon of this.#daemons) {
      daemon.kill('SIGKILL')
      daemon.kill('SIGCONT')
    }
  }

  #signal(signal: NodeJS.Signals): void {
    this.#daemons.at(-1)?.kill(signal)
  }

  async #isMounted(): Promise<boolean> {
    return (await readFile('/proc/self/mountinfo', 'utf8')).includes(` ${this.point} `)
  }
}

const passThrough = ({ source, point }: FuseMount) => ['bindfs', '-f', source, point]

/** A mount that is not there yet. */
export async function createFuseMount(t: Teardown, command = passThrough): Promise<FuseMount> {
  const fuse = new FuseMount(await temporaryDirectory(t), command)
  await mkdir(fuse.source)
  await mkdir(fuse.point)
  t.teardown(() => fuse.end())
  return fuse
}
