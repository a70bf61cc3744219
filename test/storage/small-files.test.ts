import { execFile } from 'node:child_process'
import { mkdir, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { OpenFile } from '../../backends/backend.ts'
import { digest, patternBytes } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { errnoOf } from '../../backends/posix/errno.ts'
import { type Posix, startPosix } from '../posix.ts'
import { eventually } from '../server.ts'

const run = promisify(execFile)
const sizes = [0, 1, 4096, 65_535, 65_536, 65_537, 3_000_000]

async function makeTree(root: string): Promise<string[]> {
  await mkdir(join(root, 'dir/deep'), { recursive: true })
  const files = sizes.flatMap((size) => [`file-${size}`, `dir/deep/file-${size}`])
  for (const name of files) await writeFile(join(root, name), patternBytes(Number(/\d+$/.exec(name)), name))
  await symlink('file-4096', join(root, 'link'))
  await symlink('deep', join(root, 'dir/link'))
  await symlink('/etc', join(root, 'dir/out'))
  await symlink('/etc/passwd', join(root, 'out'))
  await run('mkfifo', [join(root, 'fifo')])
  const others = ['link', 'dir/link/file-1', 'dir/out/passwd', 'out', 'fifo', 'dir', 'none', 'file-1/none', 'none/none']
  return [...files, ...others, `dir/${'x'.repeat(250)}`, `${'x'.repeat(200)}/`.repeat(19).slice(0, -1)]
}

const opened = (posix: Posix, id: string, path: string): Promise<OpenFile | Error> =>
  posix.backend.read(id, parsePath(path)).catch((error: Error) => error)

/** Everything that can be seen of a file, or the error that hides it. */
async function seen(file: OpenFile | Error): Promise<unknown> {
  if (file instanceof Error) return [errnoOf(file), file.message]
  const { entry } = file
  const pieces: Buffer[] = []
  for await (const chunk of file.chunks({ start: 0, end: entry.size })) pieces.push(Buffer.from(chunk))
  const part: Buffer[] = []
  for await (const chunk of file.chunks({ start: entry.size >> 2, end: entry.size >> 1 })) part.push(Buffer.from(chunk))
  const location = await file.location?.()
  file.close()
  return [entry, digest(Buffer.concat(pieces)), digest(Buffer.concat(part)), location]
}

t.test('files that are asked for at once are what they are one after the other', async (t) => {
  const posix = await startPosix(t)
  const { id, path: root } = await posix.createFolder()
  const paths = await makeTree(root)
  const expected: Record<string, unknown> = {}
  for (const path of paths) expected[path] = await seen(await opened(posix, id, path))

  for (const copies of [1, 5]) {
    const all = Array.from({ length: copies }, () => paths).flat()
    const files = await Promise.all(all.map(async (path) => ({ path, file: await opened(posix, id, path) })))
    for (const { path, file } of files) t.same(await seen(file), expected[path], path.slice(0, 60))
  }
  t.same(await posix.openFiles(), [])
})

t.test('small ones are read and closed by then, and stay what they were', async (t) => {
  const posix = await startPosix(t)
  const { id, path: root } = await posix.createFolder()
  const paths = Array.from({ length: 40 }, (_, index) => `file-${index}`)
  for (const path of paths) await writeFile(join(root, path), path)
  let files: OpenFile[] = []
  // Nobody waits for a thread that is late, as on a loaded machine: then each is opened.
  await eventually(async () => {
    for (const file of files) file.close()
    files = await Promise.all(paths.map((path) => posix.backend.read(id, parsePath(path))))
    return (await posix.openFiles()).length === 0
  })
  for (const path of paths) await truncate(join(root, path), 2)
  t.same(
    files.map(({ content }) => content?.toString()),
    paths,
    'they came with the opening',
  )
  const read = await Promise.all(files.map(seen))
  t.match(
    read,
    paths.map((path) => [{ path, size: path.length }, digest(Buffer.from(path)), String, undefined]),
  )
})
