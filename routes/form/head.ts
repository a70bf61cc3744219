import { readParameterized } from '../parameters.ts'
import { type Disposition, readDisposition } from './disposition.ts'

export interface Head extends Disposition {
  /** Whether it is said to be a file, with or without a name. */
  isFile: boolean
}

const field = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):(.*)$/

/**
 * Reads what stands before the content of a part: the rest of the delimiter's line, then the header fields.
 * @returns undefined when a line is no header field, or there is not one Content-Disposition of `form-data`
 */
export function readHead(text: string): Head | undefined {
  const [padding = '', ...lines] = text.split(/\r\n(?![ \t])/)
  if (!/^[ \t]*$/.test(padding)) return undefined
  const dispositions: string[] = []
  let type: string | undefined
  for (const line of lines) {
    const [, name, value] = field.exec(line.replaceAll('\r\n', '')) ?? []
    if (name === undefined || value === undefined) return undefined
    if (name.toLowerCase() === 'content-disposition') dispositions.push(value)
    if (name.toLowerCase() === 'content-type') type = readParameterized(value, 'escaped')?.value
  }
  const [value, ...others] = dispositions
  const disposition = value === undefined || others.length > 0 ? undefined : readDisposition(value)
  if (disposition === undefined) return undefined
  return { ...disposition, isFile: disposition.filename !== undefined || type === 'application/octet-stream' }
}
