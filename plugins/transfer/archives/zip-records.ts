import type { Entry } from '../../../backends/backend.ts'
import type { Member } from './members.ts'

/** What the headers of one member say. */
export interface ZipRecord {
  name: Buffer
  entry: Entry
  deflated: boolean
  /** CRC and sizes come after the content instead of before it. */
  describedAfter: boolean
  /** Whether its sizes are written with 64 bits. */
  zip64: boolean
  crc: number
  compressedSize: number
  size: number
  /** Where its local header is. */
  offset: number
}

const utf8Flag = 0x0800
const describedAfterFlag = 0x0008
const unix = 3
const max16 = 0xffff
const max32 = 0xffff_ffff
/** Deflate makes what cannot be compressed a little larger (RFC 1951, section 3.2.4), so some room is left. */
const zip64Threshold = 0xf000_0000

const types = { file: 0o100000, directory: 0o040000, symlink: 0o120000 }
const defaultModes = { file: 0o644, directory: 0o755, symlink: 0o777 }

export function toRecord({ entry, name }: Member, size: number, offset: number): ZipRecord {
  return {
    name: Buffer.from(name),
    entry,
    deflated: false,
    describedAfter: false,
    zip64: size >= zip64Threshold,
    crc: 0,
    compressedSize: size,
    size,
    offset,
  }
}

/** APPNOTE.TXT, section 4.3.7. Sizes that are known stand here as well where the CRC comes after the content. */
export function localHeader(record: ZipRecord): Buffer {
  const zip64 = record.zip64 ? zip64Extra([record.size, record.compressedSize]) : empty
  const extra = Buffer.concat([zip64, timestampExtra(record.entry)])
  const header = Buffer.allocUnsafe(30)
  header.writeUInt32LE(0x04034b50, 0)
  writeCommon(record, extra, header, 4)
  return Buffer.concat([header, record.name, extra])
}

/** APPNOTE.TXT, section 4.3.9. */
export function dataDescriptor({ zip64, crc, compressedSize, size }: ZipRecord): Buffer {
  const descriptor = Buffer.alloc(zip64 ? 24 : 16)
  descriptor.writeUInt32LE(0x08074b50, 0)
  descriptor.writeUInt32LE(crc, 4)
  const { write, width } = zip64 ? { write: write64, width: 8 } : { write: write32, width: 4 }
  write(descriptor, compressedSize, 8)
  write(descriptor, size, 8 + width)
  return descriptor
}

/** APPNOTE.TXT, section 4.3.12. */
export function centralHeader(record: ZipRecord): Buffer {
  const { entry, offset, zip64 } = record
  const values = zip64 ? [record.size, record.compressedSize] : []
  if (offset >= max32) values.push(offset)
  const extra = Buffer.concat([values.length > 0 ? zip64Extra(values) : empty, timestampExtra(entry)])
  const header = Buffer.allocUnsafe(46).fill(0)
  header.writeUInt32LE(0x02014b50, 0)
  header.writeUInt8(versionNeeded(record), 4)
  header.writeUInt8(unix, 5)
  writeCommon(record, extra, header, 6)
  const mode = types[entry.type] | (entry.mode ?? defaultModes[entry.type])
  header.writeUInt32LE(((mode << 16) | (entry.type === 'directory' ? 0x10 : 0)) >>> 0, 38)
  header.writeUInt32LE(Math.min(offset, max32), 42)
  return Buffer.concat([header, record.name, extra])
}

/** APPNOTE.TXT, sections 4.3.14 to 4.3.16: how many headers there are, from where on, and of how many bytes. */
export function endOfDirectory({ count, offset, size }: { count: number; offset: number; size: number }): Buffer {
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50, 0)
  end.writeUInt16LE(Math.min(count, max16), 8)
  end.writeUInt16LE(Math.min(count, max16), 10)
  end.writeUInt32LE(Math.min(size, max32), 12)
  end.writeUInt32LE(Math.min(offset, max32), 16)
  if (count < max16 && size < max32 && offset < max32) return end

  const zip64 = Buffer.alloc(56 + 20)
  zip64.writeUInt32LE(0x06064b50, 0)
  write64(zip64, 56 - 12, 4)
  zip64.writeUInt8(45, 12)
  zip64.writeUInt8(unix, 13)
  zip64.writeUInt16LE(45, 14)
  write64(zip64, count, 24)
  write64(zip64, count, 32)
  write64(zip64, size, 40)
  write64(zip64, offset, 48)
  zip64.writeUInt32LE(0x07064b50, 56)
  write64(zip64, offset + size, 64)
  zip64.writeUInt32LE(1, 72)
  return Buffer.concat([zip64, end])
}

const empty = Buffer.alloc(0)

/** The 26 bytes that the two kinds of header share. */
function writeCommon(record: ZipRecord, extra: Buffer, header: Buffer, at: number): void {
  const { deflated, describedAfter, zip64, entry } = record
  const { date, time } = dosTime(entry.modifiedAt)
  header.writeUInt16LE(versionNeeded(record), at)
  header.writeUInt16LE(utf8Flag | (describedAfter ? describedAfterFlag : 0), at + 2)
  header.writeUInt16LE(deflated ? 8 : 0, at + 4)
  header.writeUInt16LE(time, at + 6)
  header.writeUInt16LE(date, at + 8)
  header.writeUInt32LE(record.crc, at + 10)
  header.writeUInt32LE(zip64 ? max32 : record.compressedSize, at + 14)
  header.writeUInt32LE(zip64 ? max32 : record.size, at + 18)
  header.writeUInt16LE(record.name.length, at + 22)
  header.writeUInt16LE(extra.length, at + 24)
}

function versionNeeded({ zip64, offset }: ZipRecord): number {
  return zip64 || offset >= max32 ? 45 : 20
}

function zip64Extra(values: number[]): Buffer {
  const extra = Buffer.alloc(4 + 8 * values.length)
  extra.writeUInt16LE(0x0001, 0)
  extra.writeUInt16LE(8 * values.length, 2)
  for (const [index, value] of values.entries()) write64(extra, value, 4 + 8 * index)
  return extra
}

/** Info-ZIP's extended timestamp, in UTC to the second; absent for a time that its 32 bits do not hold. */
function timestampExtra({ modifiedAt }: Entry): Buffer {
  const seconds = Math.floor(modifiedAt.getTime() / 1000)
  if (seconds !== (seconds | 0)) return empty
  const extra = Buffer.allocUnsafe(9)
  extra.writeUInt16LE(0x5455, 0)
  extra.writeUInt16LE(5, 2)
  extra.writeUInt8(1, 4)
  extra.writeInt32LE(seconds, 5)
  return extra
}

/** The time in the format's own terms, which know no zone and only 1980 to 2107. */
function dosTime(time: Date): { date: number; time: number } {
  const year = time.getUTCFullYear()
  if (year < 1980) return { date: (1 << 5) | 1, time: 0 }
  if (year > 2107) return { date: (127 << 9) | (12 << 5) | 31, time: (23 << 11) | (59 << 5) | 29 }
  return {
    date: ((year - 1980) << 9) | ((time.getUTCMonth() + 1) << 5) | time.getUTCDate(),
    time: (time.getUTCHours() << 11) | (time.getUTCMinutes() << 5) | (time.getUTCSeconds() >> 1),
  }
}

function write32(buffer: Buffer, value: number, at: number): void {
  buffer.writeUInt32LE(value, at)
}

function write64(buffer: Buffer, value: number, at: number): void {
  buffer.writeUInt32LE(value % 0x1_0000_0000, at)
  buffer.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4)
}
