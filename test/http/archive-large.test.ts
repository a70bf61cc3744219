import { execFile } from 'node:child_process'
import { mkdir, open, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { startServer, temporaryDirectory } from '../server.ts'

const run = promisify(execFile)
const GiB = 1024 ** 3
/** A pax header and its record: 12 digits of octal have room for less than 8 GiB. */
const extended = 2 * 512

async function sparseFile(path: string, bytes: number): Promise<void> {
  await (await open(path, 'w')).close()
  await truncate(path, bytes)
}

/** Saves with holes where there are zeros. */
async function save(url: string, file: string): Promise<void> {
  await run('bash', ['-c', 'set -o pipefail; curl -sSf "$1" | cp --sparse=always /dev/stdin "$2"', 'bash', url, file])
}

const checkZip = `
import sys, zipfile
zip = zipfile.ZipFile(sys.argv[1])
infos = zip.infolist()
assert len(infos) == int(sys.argv[2]), len(infos)
assert sum(info.file_size for info in infos) == int(sys.argv[3])
assert zip.testzip() is None
print(zip.read(infos[-1]).decode())
`

t.test('large archives', async (t) => {
  const server = await startServer(t)

  await t.test('over 4 GiB', async (t) => {
    const { folder, mount } = await server.files()
    const directory = await temporaryDirectory(t)
    await sparseFile(join(mount, 'a.bin'), 4 * GiB + 1)
    await writeFile(join(mount, 'b.txt'), 'after four GiB')
    const file = join(directory, 'large.zip')
    await save(await server.signArchive(folder), file)
    const { stdout } = await run('python3', ['-c', checkZip, file, '2', String(4 * GiB + 1 + 14)])
    t.equal(stdout, 'after four GiB\n')
    for (const [lister, ...options] of [
      ['bsdtar', '-tvf'],
      ['unzip', '-l'],
    ] as const) {
      t.match((await run(lister, [...options, file])).stdout, `${4 * GiB + 1} `)
    }
    await rm(file)
  })

  // Its header differs from that of a smaller file.
  await t.test('a tar of a file over 8 GiB', async (t) => {
    const { folder, mount } = await server.files()
    await sparseFile(join(mount, 'a.bin'), 512)
    await writeFile(join(mount, 'b.txt'), 'after')
    const url = await server.signArchive(folder, [], { archive: 'tar' })
    const length = async () => Number((await fetch(url, { method: 'HEAD' })).headers.get('content-length'))
    const small = await length()
    await truncate(join(mount, 'a.bin'), 8 * GiB)
    t.equal(await length(), small - 512 + 8 * GiB + extended)
    const { stdout } = await run('bash', ['-c', 'curl -sf "$1" | head -c 65536 | tar -tvf - 2>&1 || true', 'bash', url])
    t.match(stdout, `${8 * GiB} `)
    t.match(stdout, 'Unexpected EOF')
  })

  await t.test('over 65,535 entries', async (t) => {
    const { folder, mount } = await server.files()
    const directory = await temporaryDirectory(t)
    const count = 66_000
    await mkdir(join(mount, 'many'))
    for (let start = 0; start < count; start += 100) {
      const paths = Array.from({ length: 100 }, (_, index) => join(mount, 'many', `file-${start + index}.txt`))
      await Promise.all(paths.map((path) => writeFile(path, '123456789')))
    }
    await writeFile(join(mount, 'z.txt'), 'the last')
    const url = await server.signArchive(folder)
    t.equal((await fetch(url, { method: 'HEAD' })).headers.get('content-length'), null, 'too many to look at first')
    const file = join(directory, 'many.zip')
    await save(url, file)
    await run('unzip', ['-tqq', file])
    const { stdout } = await run('python3', ['-c', checkZip, file, String(count + 2), String(count * 9 + 8)])
    t.equal(stdout, 'the last\n')
    const listed = await run('bash', ['-c', 'bsdtar -tf "$1" | wc -l', 'bash', file])
    t.equal(Number(listed.stdout), count + 2)
    const piped = await run('bash', [
      '-c',
      'curl -sSf "$1" | bsdtar -tf - | wc -l',
      'bash',
      url.replace('=zip', '=tar'),
    ])
    t.equal(Number(piped.stdout), count + 2)
  })
})
