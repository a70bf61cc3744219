import { readParameterized } from '../parameters.ts'
import { type Disposition, readDisposition } from './disposition.ts'

export interface Head extends Disposition {
  /** Whether it is said to be a file, with or without a name. */
  isFile: boolean
}

const field = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/

/**
 * Reads what stands before the content of a part: the rest of the delimiter's line, then the header fields.
 * @returns undefined when a line is no header field, or there is not one Content-Disposition of `form-data`
 */
export function readHead(text: string): Head | undefined {
  const [padding = '', ...lines] = text.split(/\r\n(?![ \t])/)
  if (!/^[ \t]*$/.test(padding)) return undefined
  const fields = new Map<string, string[]>()
  for (const line of lines) {
    const [, name, value] = field.exec(line.replaceAll('\r\n', '')) ?? []
    if (name === undefined || value === undefined) return undefined
    fields.set(name.toLowerCase(), [...(fields.get(name.toLowerCase()) ?? []), value])
  }
  const [disposed, ...others] = fields.get('content-disposition') ?? []
  const disposition = disposed === undefined || others.length > 0 ? undefined : readDisposition(disposed)
  if (disposition === undefined) return undefined
  const type = readParameterized(fields.get('content-type')?.[0] ?? '', 'escaped')?.value
  return { ...disposition, isFile: disposition.filename !== undefined || type === 'application/octet-stream' }
}
