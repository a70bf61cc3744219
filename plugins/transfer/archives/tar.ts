import { Batch } from './batch.ts'
import type { Loaded } from './contents.ts'
import type { Member } from './members.ts'
import { blockBytes, padding, tarHeader } from './tar-header.ts'

/** Two blocks of zeros end an archive. */
const end = Buffer.alloc(2 * blockBytes)

/** A tar of the members (POSIX pax), in chunks that are valid until the next one is asked for. */
export async function* packTar(members: AsyncIterable<Loaded>): AsyncGenerator<Buffer> {
  const batch = new Batch()
  for await (const member of members) {
    const { entry, content } = member
    yield* batch.add(tarHeader(member))
    if (entry.type !== 'file') continue
    if (Buffer.isBuffer(content)) yield* batch.add(content)
    else for await (const chunk of content) yield* batch.add(chunk)
    yield* batch.add(padding(entry.size))
  }
  yield* batch.add(end)
  yield* batch.rest()
}

/** The length of the tar that `packTar` makes of the members. */
export function createTarLength() {
  let total = end.length
  return {
    add(member: Member): void {
      const { type, size } = member.entry
      total += tarHeader(member).length + (type === 'file' ? size + padding(size).length : 0)
    },
    total: () => total,
  }
}
