import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

const maxBytes = 1024 * 1024

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Reads a file of settings or a secret: without the byte order mark of UTF-8, and without space around it.
 * @throws with a reason, also for what would never come to an end, such as a pipe or /dev/zero
 */
export function readSmallFile(path: string): string {
  // Otherwise a pipe that nobody writes to would keep this from returning.
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    if (!fstatSync(file).isFile()) throw new Error('it is not a regular file')
    const bytes = Buffer.alloc(maxBytes + 1)
    let length = 0
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      read = readSync(file, bytes, length, bytes.length - length, null)
    }
    if (length > maxBytes) throw new Error(`it has more than ${maxBytes} bytes`)
    return decode(bytes.subarray(0, length)).trim()
  } finally {
    closeSync(file)
  }
}

function decode(bytes: Buffer): string {
  try {
    return utf8.decode(bytes)
  } catch (cause) {
    throw new Error('it is not text in UTF-8', { cause })
  }
}
