import { readParameterized } from '../parameters.ts'
import { type Disposition, readDisposition } from './disposition.ts'
import { refusePart } from './refuse-part.ts'

export interface Head extends Disposition {
  /** Whether it is said to be a file, with or without a name. */
  isFile: boolean
}

/** What leaves the content as it is (RFC 2045, section 6.2). */
const plain: Record<string, string[]> = {
  'content-transfer-encoding': ['7bit', '8bit', 'binary'],
  'content-encoding': ['identity'],
}

const field = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):(.*)$/

/**
 * Reads what stands before the content of a part: the rest of the delimiter's line, then the header fields.
 * @returns undefined when a line is no header field, or there is not one Content-Disposition of `form-data`
 * @throws {Problem} `unsupported_media_type` for content that is encoded, which nothing here would decode
 */
export function readHead(text: string): Head | undefined {
  const [padding = '', ...lines] = text.split(/\r\n(?![ \t])/)
  if (!/^[ \t]*$/.test(padding)) return undefined
  const dispositions: string[] = []
  let type: string | undefined
  let coded: string | undefined
  for (const line of lines) {
    const [, name, value] = field.exec(line.replaceAll('\r\n', '')) ?? []
    if (name === undefined || value === undefined) return undefined
    if (name.toLowerCase() === 'content-disposition') dispositions.push(value)
    if (plain[name.toLowerCase()]?.includes(value.trim().toLowerCase()) === false) coded = name
    if (name.toLowerCase() === 'content-type') type = readParameterized(value, 'escaped')?.value
  }
  const [value, ...others] = dispositions
  const disposition = value === undefined || others.length > 0 ? undefined : readDisposition(value)
  if (disposition === undefined) return undefined
  if (coded !== undefined)
    throw refusePart('unsupported_media_type', disposition.name, `must be sent as it is, without ${coded}`)
  return { ...disposition, isFile: disposition.filename !== undefined || type === 'application/octet-stream' }
}
