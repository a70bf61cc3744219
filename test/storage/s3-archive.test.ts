import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { patternBytes } from '../../backends/conformance/bytes.ts'
import { s3Volume } from '../ceph/index.ts'
import { startServer, temporaryDirectory } from '../server.ts'

// More than are read ahead at once, and each with bytes of its own.
const files = Object.fromEntries(
  Array.from({ length: 60 }, (_, index) => [
    `file-${String(index).padStart(2, '0')}`,
    Buffer.concat([Buffer.from(`${index}\n`), patternBytes(5000 + index)]),
  ]),
)

for (const format of ['tar', 'zip']) {
  t.test(`each of many small files in a ${format} has its own bytes`, async (t) => {
    const server = await startServer(t, { env: { VOLUMES: JSON.stringify({ default: await s3Volume() }) } })
    const folder = await server.createFolder()
    await server.upload(folder, files)
    const directory = await temporaryDirectory(t)
    const archive = await fetch(await server.signArchive(folder, [], { archive: format }))
    await writeFile(join(directory, 'archive'), Buffer.from(await archive.arrayBuffer()))
    await promisify(execFile)('bsdtar', ['-xf', 'archive'], { cwd: directory })
    for (const [name, bytes] of Object.entries(files)) {
      t.ok(bytes.equals(await readFile(join(directory, name))), name)
    }
  })
}
