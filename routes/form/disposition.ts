import { Problem } from '../../lib/problems.ts'
import { type Parameter, type Parameterized, readParameterized } from '../parameters.ts'
import { refusePart } from './refuse-part.ts'

export interface Disposition {
  /** The name of the input. */
  name: string
  /** Empty where an input was left empty; undefined when the part is said to be no file. */
  filename: string | undefined
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const extended = /^utf-8'[0-9A-Za-z-]*'((?:[!#$&+\-.^_`|~0-9A-Za-z]|%[0-9A-Fa-f]{2})*)$/i
const encodedWords = /^(?:=\?[^?\s]+\?[bq]\?[^?]*\?=\s*)+$/i
// A byte order mark is a part of the name.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Reads the Content-Disposition of a part, one character for each byte. What can be read in two ways is refused, since
 * two files could become one; docs/uploads.md says what the clients send.
 * @returns undefined for one that is not `form-data`
 */
export function readDisposition(text: string): Disposition | undefined {
  const disposition = readParameterized(text, 'raw') ?? readEscaped(text)
  if (disposition === undefined)
    throw malformed('must have well-formed parameters, each once, and quotes in them as %22')
  if (disposition.value !== 'form-data') return undefined
  const { parameters } = disposition
  for (const { quoted, text } of parameters.values()) {
    if (!quoted && !token.test(text)) throw malformed('must have values in quotes')
  }
  const name = Buffer.from(unescapeQuoted(parameters.get('name')) ?? '', 'latin1').toString()
  return { name, filename: filenameOf(parameters, name) }
}

/** Some clients escape quotes by backslashes, as browsers do not. The file's name is certain if it stands elsewhere. */
function readEscaped(text: string): Parameterized | undefined {
  const disposition = readParameterized(text, 'escaped')
  return disposition?.parameters.has('filename*') ? disposition : undefined
}

/** `filename*` is exact where both are given (RFC 6266, section 4.3). */
function filenameOf(parameters: Map<string, Parameter>, field: string): string | undefined {
  const exact = parameters.get('filename*')
  if (exact !== undefined) {
    const encoded = exact.quoted ? undefined : extended.exec(exact.text)?.[1]
    if (encoded === undefined) throw malformed("must have filename* as UTF-8''percent-encoded")
    return decode(unescapePercent(encoded), field)
  }
  const filename = unescapeQuoted(parameters.get('filename'))
  if (filename === undefined) return undefined
  if (encodedWords.test(filename)) throw malformed('must not have encoded words; such a name needs filename*')
  return decode(filename, field)
}

/** In quotes browsers and curl write a quote and a line break as these, and nothing else (WHATWG HTML, "multipart/form-data"). */
function unescapeQuoted(parameter: Parameter | undefined): string | undefined {
  if (!parameter?.quoted) return parameter?.text
  return parameter.text.replaceAll('%22', '"').replaceAll('%0D', '\r').replaceAll('%0A', '\n')
}

function unescapePercent(text: string): string {
  return text.replace(/%(..)/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
}

function decode(bytes: string, field: string): string {
  try {
    return utf8.decode(Buffer.from(bytes, 'latin1'))
  } catch {
    throw refusePart('invalid_path', field, 'filename must be valid UTF-8')
  }
}

function malformed(rule: string): Problem {
  return new Problem('malformed_multipart', `The Content-Disposition of a part ${rule}.`)
}
