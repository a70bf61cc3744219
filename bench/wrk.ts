import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { installed } from './debian.ts'
import type { Bench } from './row.ts'

const run = promisify(execFile)

interface Load {
  durationSeconds?: number
  connections?: number
  /** What is sent to each URL; without it they are asked for by GET. */
  send?: { method: 'PUT' | 'POST'; bytes: number; headers?: Record<string, string> }
}

/** Requests per second of one client thread that asks for the URLs of one server in turn. */
export async function requestsPerSecond(
  bench: Bench,
  urls: string[],
  { durationSeconds = 4, connections = 32, send }: Load = {},
): Promise<number> {
  await installed('wrk', 'wrk')
  const method = send?.method ?? 'GET'
  const body = send === undefined ? 'nil' : `string.rep("x", ${send.bytes})`
  const headers = Object.entries(send?.headers ?? {}).map(([name, value]) => `["${name}"] = "${value}"`)
  const [first = ''] = urls
  const script = join(bench.directory, `${randomUUID()}.lua`)
  const paths = urls.map((url) => `  "${url.slice(new URL(url).origin.length)}",`).join('\n')
  await writeFile(
    script,
    `local paths = {\n${paths}\n}\nlocal next = 0\nlocal body = ${body}
     local headers = { ${headers.join(', ')} }
     request = function() next = next % #paths + 1; return wrk.format("${method}", paths[next], headers, body) end`,
  )
  const args = ['-t1', `-c${connections}`, `-d${durationSeconds}s`, '-s', script, new URL(first).origin]
  const { stdout } = await run('wrk', args)
  if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(stdout)
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1])
}
