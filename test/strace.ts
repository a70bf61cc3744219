import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Teardown } from './server.ts'

/** Lets system calls of a running process fail, until it is detached. */
export class Strace {
  readonly #process: ChildProcess

  private constructor(child: ChildProcess) {
    this.#process = child
  }

  /**
   * @param injection what strace(1) calls a tampering, such as `inject=fsync:error=EIO`
   * @param paths only calls on these files fail
   */
  static async attach(t: Teardown, { pid }: ChildProcess, injection: string, paths: string[] = []): Promise<Strace> {
    const only = paths.flatMap((path) => ['-P', path])
    const args = ['-f', '-p', String(pid), '-e', injection, '-e', 'signal=none', '-o', '/dev/null', ...only]
    const child = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] })
    await once(child, 'spawn')
    const strace = new Strace(child)
    t.teardown(() => strace.detach())
    // Read on, since strace tells of new threads too, and ends where nobody listens.
    await new Promise<void>((resolve, reject) => {
      child.stderr.setEncoding('utf8').on('data', (text: string) => text.includes('attached') && resolve())
      child.once('exit', () => reject(new Error('strace could not attach')))
    })
    return strace
  }

  async detach(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exited = once(this.#process, 'exit')
    this.#process.kill('SIGINT')
    await exited
  }
}
