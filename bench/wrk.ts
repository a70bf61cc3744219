import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { installed } from './debian.ts'
import type { Bench } from './row.ts'

const run = promisify(execFile)

/** Requests per second of one client thread with 32 connections that asks for the URLs of one server in turn. */
export async function requestsPerSecond(bench: Bench, urls: string[], durationSeconds = 4): Promise<number> {
  await installed('wrk', 'wrk')
  const [first = ''] = urls
  const script = join(bench.directory, 'wrk.lua')
  const paths = urls.map((url) => `  "${url.slice(new URL(url).origin.length)}",`).join('\n')
  await writeFile(
    script,
    `local paths = {\n${paths}\n}\nlocal next = 0
     request = function() next = next % #paths + 1; return wrk.format("GET", paths[next]) end`,
  )
  const args = ['-t1', '-c32', `-d${durationSeconds}s`, '-s', script, new URL(first).origin]
  const { stdout } = await run('wrk', args)
  if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(stdout)
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1])
}
