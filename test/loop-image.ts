import { execFileSync } from 'node:child_process'
import { mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { temporaryDirectory } from './server.ts'
import { searchPath, type Tool } from './tools.ts'

/** Mounts a new, sparse image of so many MiB until the test ends. @returns where */
export async function mountImage(t: Test, mkfs: [Tool, ...string[]], mebibytes: number): Promise<string> {
  const directory = await temporaryDirectory(t)
  const [image, root] = [join(directory, 'image'), join(directory, 'root')]
  const file = await open(image, 'w')
  await file.truncate(mebibytes * 1024 * 1024)
  await file.close()
  await mkdir(root)
  run(...mkfs, image)
  run('mount', '-o', 'loop', image, root)
  t.teardown(() => run('umount', root))
  return root
}

/** Runs a program of the system, which may be where an ordinary user's PATH does not lead. */
export function run(...[command = '', ...args]: string[]): string {
  const env = { ...process.env, PATH: searchPath }
  return execFileSync(command, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] })
}
