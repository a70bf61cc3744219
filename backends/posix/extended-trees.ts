import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline/promises'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import type { Call } from '../backend.ts'
import { ProgramFailed } from '../program.ts'
import { pathOf } from './inside.ts'

/** Those of `extended.ts`, and the default ACLs of directories. */
const names = '^(user\\.|system\\.posix_acl_)'

/** Of an entry that came or went meanwhile, as users may let it. */
const gone = /: No such file or directory$/

/** Gives a copy of a tree, and all that is in it, the ACLs and extended attributes of its source. */
export async function copyExtended(source: number, copy: number, { signal }: Call): Promise<void> {
  const [from, to] = [`${pathOf(source)}/.`, `${pathOf(copy)}/.`]
  const how = ['--recursive', '--physical', '--no-dereference', '--absolute-names', '--dump', '--encoding=hex']
  const env = { ...process.env, LC_ALL: 'C' }
  const reader = spawn('getfattr', [...how, `--match=${names}`, '--', from], { signal, env })
  const writer = spawn('setfattr', ['--no-dereference', '--restore=-'], { signal, env })
  const ends = Promise.all([endOf('getfattr', reader), endOf('setfattr', writer)])
  ends.catch(() => {}) // Awaited below.
  const [begin, beginOfCopy] = [`# file: ${from}`, `# file: ${to}`]
  async function* lines(): AsyncGenerator<string> {
    for await (const line of createInterface({ input: reader.stdout })) {
      yield `${line.startsWith(begin) ? beginOfCopy + line.slice(begin.length) : line}\n`
    }
  }
  await pipeline(Readable.from(lines()), writer.stdin, { signal }).catch((error) => {
    signal.throwIfAborted()
    // How the programs end says more.
    if (!(error instanceof Error)) throw error
  })
  await ends
}

async function endOf(program: string, child: ChildProcess): Promise<void> {
  const complaints = child.stderr === null ? Promise.resolve('') : text(child.stderr)
  const [status] = await once(child, 'close')
  const others = (await complaints).split('\n').filter((line) => line !== '' && !gone.test(line))
  if (status !== 0 && others.length > 0) throw new ProgramFailed(program, Number(status), others.join('; '))
}
