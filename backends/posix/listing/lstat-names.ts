import fs from 'node:fs'
import { attributes } from '../attributes.ts'
import { gone, ignoreErrors } from '../errno.ts'
import { pathOf } from '../inside.ts'

const orUndefined = { throwIfNoEntry: false } as const

export function lstatNames({ fd, keys }: { fd: number; keys: string }): ArrayBuffer {
  const names = keys.split('\0')
  const result = new Float64Array(names.length * attributes.length)
  const directory = `${pathOf(fd)}/`
  for (const [index, key] of names.entries()) {
    // Without the slash of a directory, which would follow a symlink in its place.
    const location = directory + (key.endsWith('/') ? key.slice(0, -1) : key)
    const stats = ignoreErrors(gone, () => fs.lstatSync(location, orUndefined))
    if (stats === undefined) continue
    let at = index * attributes.length
    for (const attribute of attributes) result[at++] = stats[attribute]
  }
  return result.buffer
}
