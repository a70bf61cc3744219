import { writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { acquireBuffer } from '../../backends/buffers.ts'
import { patternBytes } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { createSha256 } from '../../lib/hashing/sha256.ts'
import { bodyOf } from '../../plugins/transfer/body.ts'
import { startPosix } from '../posix.ts'

const MiB = 1024 ** 2

t.test(
  'a file that is read and hashed, as parts are when they are put together, keeps the buffers whole',
  async (t) => {
    const posix = await startPosix(t)
    const { id, path } = await posix.createFolder()
    await writeFile(join(path, 'file'), patternBytes(12 * MiB))
    const file = await posix.backend.read(id, parsePath('file'))
    const hash = createSha256(12 * MiB)
    for await (const chunk of file.chunks({ start: 0, end: 12 * MiB })) await hash.update(chunk)
    file.close()
    await hash.digest()
    const sizes = new Set(Array.from({ length: 60 }, () => acquireBuffer().length))
    t.same([...sizes].toSorted(), [MiB, 64 * 1024].toSorted())
  },
)

t.test('a body that shall end ends, though the client is faster than the storage', async (t) => {
  let sent = 0
  const source = new Readable({
    read() {
      sent += 65_536
      setImmediate(() => this.push(Buffer.alloc(65_536)))
    },
  })
  t.teardown(() => source.destroy())
  const end = new AbortController()
  const body = bodyOf(source as IncomingMessage, { end: end.signal })
  let after = 0
  for await (const block of body) {
    if (end.signal.aborted) after += block.length
    else if (sent > 8 * MiB) end.abort()
    await sleep(12)
    if (after > 16 * MiB) break
  }
  t.ok(after <= 3 * MiB, `${after} bytes came after the end`)
})
