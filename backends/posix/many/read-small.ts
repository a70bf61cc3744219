import fs from 'node:fs'
import { attributes } from '../attributes.ts'
import { isAt } from '../inside.ts'
import { smallFileBytes } from '../read.ts'
import { smallFilesAtOnce } from './messages.ts'

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants

/** The first file that is slow to come ends the trip: the others are better read side by side. */
const patienceMilliseconds = 5

const content = Buffer.allocUnsafeSlow(smallFilesAtOnce * smallFileBytes)

/** Anything but a small file that is reached without a symlink counts as missing. */
export function readSmallFiles(locations: string[]): ArrayBuffer {
  const start = performance.now()
  const numbers = new Float64Array(locations.length * attributes.length)
  let filled = 0
  for (const [index, location] of locations.entries()) {
    if (performance.now() - start > patienceMilliseconds) break
    const read = readSmallFile(location, content.subarray(filled, filled + smallFileBytes))
    if (read === undefined) continue
    for (const [offset, attribute] of attributes.entries()) {
      numbers[index * attributes.length + offset] = read[attribute]
    }
    filled += read.size
  }
  const result = new Uint8Array(numbers.byteLength + filled)
  result.set(new Uint8Array(numbers.buffer))
  result.set(content.subarray(0, filled), numbers.byteLength)
  return result.buffer
}

function readSmallFile(location: string, into: Buffer): fs.Stats | undefined {
  let fd: number | undefined
  try {
    fd = fs.openSync(location, O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
    const stats = fs.fstatSync(fd)
    if (!stats.isFile() || stats.size > into.length) return undefined
    if (!isAt(fd, location)) return undefined
    let filled = 0
    for (let bytes = -1; bytes !== 0 && filled < stats.size; filled += bytes) {
      bytes = fs.readSync(fd, into, filled, stats.size - filled, filled)
    }
    return filled === stats.size ? stats : undefined
  } catch {
    return undefined
  } finally {
    if (fd !== undefined) fs.closeSync(fd)
  }
}
