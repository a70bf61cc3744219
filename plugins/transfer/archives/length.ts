import { SourceChanged } from '../../../backends/errors.ts'
import type { Member } from './members.ts'

/**
 * The most members that are looked at to find a `Content-Length`. It gives a progress bar and a sure end, but the
 * client waits for it, and each entry is looked at once more.
 */
const maxMembers = 10_000

/** The length that the meter finds for all members; undefined when they are too many. */
export async function lengthOf(
  members: AsyncIterable<Member>,
  meter: { add(member: Member): void; total(): number },
): Promise<number | undefined> {
  let count = 0
  for await (const member of members) {
    if (++count > maxMembers) return undefined
    meter.add(member)
  }
  return meter.total()
}

/**
 * Passes on chunks, which must have exactly `length` bytes in all.
 * @throws {SourceChanged} before the first byte too much, or at the end when some are missing
 */
export async function* checkLength(length: number, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let sent = 0
  const changed = () => new SourceChanged('entries came, went or changed while they were packed')
  for await (const chunk of chunks) {
    sent += chunk.length
    if (sent > length) throw changed()
    yield chunk
  }
  if (sent !== length) throw changed()
}
