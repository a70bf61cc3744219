import fs from 'node:fs'
import { gone, ignoreErrors } from '../errno.ts'
import { pathOf } from '../inside.ts'
import { attributes } from './messages.ts'

export function lstatNames({ fd, names }: { fd: number; names: string[] }): ArrayBuffer {
  const result = new Float64Array(names.length * attributes.length)
  for (const [index, name] of names.entries()) {
    const location = `${pathOf(fd)}/${name}`
    const stats = ignoreErrors(gone, () => fs.lstatSync(location, { throwIfNoEntry: false }))
    if (stats === undefined) continue
    for (const [offset, attribute] of attributes.entries()) {
      result[index * attributes.length + offset] = stats[attribute]
    }
  }
  return result.buffer
}
