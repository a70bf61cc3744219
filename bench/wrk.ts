import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { installed } from './debian.ts'
import type { Bench } from './row.ts'

const run = promisify(execFile)

interface Load {
  durationSeconds?: number
  connections?: number
  /** What is sent, by PUT, to each URL; without it they are asked for by GET. */
  putBytes?: number
}

/** Requests per second of one client thread that asks for the URLs of one server in turn. */
export async function requestsPerSecond(
  bench: Bench,
  urls: string[],
  { durationSeconds = 4, connections = 32, putBytes }: Load = {},
): Promise<number> {
  await installed('wrk', 'wrk')
  const method = putBytes === undefined ? '"GET"' : '"PUT"'
  const body = putBytes === undefined ? 'nil' : `string.rep("x", ${putBytes})`
  const [first = ''] = urls
  const script = join(bench.directory, 'wrk.lua')
  const paths = urls.map((url) => `  "${url.slice(new URL(url).origin.length)}",`).join('\n')
  await writeFile(
    script,
    `local paths = {\n${paths}\n}\nlocal next = 0\nlocal body = ${body}
     request = function() next = next % #paths + 1; return wrk.format(${method}, paths[next], nil, body) end`,
  )
  const args = ['-t1', `-c${connections}`, `-d${durationSeconds}s`, '-s', script, new URL(first).origin]
  const { stdout } = await run('wrk', args)
  if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(stdout)
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1])
}
