import { promisify } from 'node:util'
import { crc32, createDeflateRaw, deflateRaw } from 'node:zlib'
import { Batch } from './batch.ts'
import { CentralDirectory } from './central-directory.ts'
import { compress } from './compress.ts'
import { isSmall, type Loaded } from './contents.ts'
import type { Member } from './members.ts'
import { centralHeader, dataDescriptor, endOfDirectory, localHeader, toRecord, type ZipRecord } from './zip-records.ts'

const deflated = promisify(deflateRaw)

/** A zip of the members (PKWARE's APPNOTE.TXT, 6.3.10), in chunks that are valid until the next one is asked for. */
export async function* packZip(
  members: AsyncIterable<Loaded>,
  { deflate }: { deflate: boolean },
): AsyncGenerator<Buffer> {
  const batch = new Batch()
  const directory = new CentralDirectory()
  for await (const member of members) {
    const { content } = member
    const record = Buffer.isBuffer(content)
      ? yield* packSmall(batch, member, content, deflate)
      : yield* packLarge(batch, member, content, deflate)
    directory.add(record)
  }
  yield* batch.rest()
  yield* directory.encode(batch.position)
}

/** Computes the CRC before it writes the header, which suits every reader. */
async function* packSmall(
  batch: Batch,
  member: Loaded,
  content: Buffer,
  deflate: boolean,
): AsyncGenerator<Buffer, ZipRecord> {
  const record = toRecord(member, content.length, batch.position)
  record.crc = crc32(content)
  let packed = content
  if (deflate && member.entry.type === 'file') {
    const smaller = await deflated(content)
    if (smaller.length < content.length) {
      packed = smaller
      record.deflated = true
      record.compressedSize = smaller.length
    }
  }
  yield* batch.add(localHeader(record), packed)
  return record
}

/** The CRC follows the content, which is read only once. */
async function* packLarge(
  batch: Batch,
  member: Loaded,
  content: AsyncIterable<Buffer>,
  deflate: boolean,
): AsyncGenerator<Buffer, ZipRecord> {
  const { size } = member.entry
  const record = toRecord(member, size, batch.position)
  record.describedAfter = true
  record.deflated = deflate
  if (deflate) {
    record.size = 0
    record.compressedSize = 0
  }
  yield* batch.add(localHeader(record))

  record.size = size
  const start = batch.position
  const summed = withCrc(content, record)
  const chunks = deflate ? compress(summed, createDeflateRaw({ chunkSize: 64 * 1024 })) : summed
  for await (const chunk of chunks) yield* batch.add(chunk)
  record.compressedSize = batch.position - start
  yield* batch.add(dataDescriptor(record))
  return record
}

async function* withCrc(chunks: AsyncIterable<Buffer>, record: ZipRecord): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    record.crc = crc32(chunk, record.crc)
    yield chunk
  }
}

/** The length of the zip that `packZip` makes of the members when it does not deflate them. */
export function createZipLength() {
  let position = 0
  let count = 0
  let size = 0
  return {
    add(member: Member): void {
      const { entry } = member
      const length = entry.type === 'symlink' ? Buffer.byteLength(entry.target ?? '') : entry.size
      const record = toRecord(member, length, position)
      const descriptor = isSmall(entry) ? 0 : dataDescriptor(record).length
      position += localHeader(record).length + length + descriptor
      size += centralHeader(record).length
      count++
    },
    total: () => position + size + endOfDirectory({ count, offset: position, size }).length,
  }
}
