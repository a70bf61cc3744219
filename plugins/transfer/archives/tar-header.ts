import type { Member } from './members.ts'

export const blockBytes = 512

const types = { file: '0', symlink: '2', directory: '5' }
const defaultModes = { file: 0o644, directory: 0o755, symlink: 0o777 }

/** The most that eleven octal digits can say: bytes, or seconds. */
const maxNumber = 0o77777777777
const maxText = 100

/** The header of ustar, and before it a pax header with what does not fit (pax of POSIX.1-2024, EXTENDED DESCRIPTION). */
export function tarHeader({ entry, name }: Member): Buffer {
  const { type, target = '', mode = defaultModes[type] } = entry
  const size = type === 'file' ? entry.size : 0
  const mtime = Math.floor(entry.modifiedAt.getTime() / 1000)
  const linkname = type === 'symlink' ? target : ''

  const records: [key: string, value: string][] = []
  if (!fitsText(name)) records.push(['path', name])
  if (!fitsText(linkname)) records.push(['linkpath', linkname])
  if (!fitsNumber(size)) records.push(['size', String(size)])
  if (!fitsNumber(mtime)) records.push(['mtime', String(mtime)])

  const header = ustar({ name, mode, size, mtime, type: types[type], linkname })
  if (records.length === 0) return header
  const pax = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)))
  const paxHeader = ustar({ name: 'pax', mode: 0o644, size: pax.length, mtime, type: 'x', linkname: '' })
  return Buffer.concat([paxHeader, pax, padding(pax.length), header])
}

/** The zeros that fill the last block of a content of so many bytes. */
export function padding(bytes: number): Buffer {
  return zeros.subarray(0, (blockBytes - (bytes % blockBytes)) % blockBytes)
}

const zeros = Buffer.alloc(blockBytes)

interface Ustar {
  name: string
  mode: number
  size: number
  mtime: number
  type: string
  linkname: string
}

/** The owner is root without a name: the storage's owner means nothing elsewhere. */
function ustar({ name, mode, size, mtime, type, linkname }: Ustar): Buffer {
  const header = Buffer.alloc(blockBytes)
  header.write(name, 0, maxText)
  header.write(octal(mode, 7), 100)
  header.write(octal(0, 7), 108)
  header.write(octal(0, 7), 116)
  header.write(octal(fitsNumber(size) ? size : 0, 11), 124)
  header.write(octal(fitsNumber(mtime) ? mtime : 0, 11), 136)
  header.write(' '.repeat(8), 148)
  header.write(type, 156)
  header.write(linkname, 157, maxText)
  header.write('ustar\x0000', 257)
  let sum = 0
  for (const byte of header) sum += byte
  header.write(`${octal(sum, 6)}\0 `, 148)
  return header
}

/** A record says its own length, digits included. */
function paxRecord(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`
  const bytes = Buffer.byteLength(rest)
  let length = bytes
  while (length !== bytes + String(length).length) length = bytes + String(length).length
  return Buffer.from(`${length}${rest}`)
}

function octal(number: number, digits: number): string {
  return number.toString(8).padStart(digits, '0')
}

function fitsNumber(number: number): boolean {
  return number >= 0 && number <= maxNumber
}

/** Only an ASCII name means the same to every reader. */
function fitsText(text: string): boolean {
  return text.length <= maxText && /^[\0-\x7f]*$/.test(text)
}
