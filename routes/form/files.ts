import { setImmediate as othersTurn } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import { Problem } from '../../lib/problems.ts'
import { readParameterized } from '../parameters.ts'
import { readHead } from './head.ts'
import { readParts } from './parts.ts'
import { refusePart } from './refuse-part.ts'

/** RFC 2046, section 5.1.1. */
const longestBoundary = 70
export const mostParts = 100_000
/** After so many parts other requests get their turn: many small ones come in one block. */
const partsAtOnce = 1000

export interface FormFile {
  /** The name of the input. */
  field: string
  filename: string
  /** Where in the body the content begins. */
  start: number
  content: AsyncGenerator<Buffer>
}

/** What separates the parts of a form. */
export function boundaryOf({ headers }: FastifyRequest): string {
  const boundary = readParameterized(headers['content-type'] ?? '', 'raw')?.parameters.get('boundary')?.text
  if (boundary && boundary.length <= longestBoundary) return boundary
  throw new Problem(
    'malformed_multipart',
    `Content-Type must be well-formed and have one boundary of up to ${longestBoundary} characters.`,
  )
}

/** The files of a form as they come; anything else in it is refused. */
export async function* readFormFiles(body: AsyncGenerator<Buffer>, boundary: string): AsyncGenerator<FormFile> {
  let begun = 0
  let read = 0
  for await (const part of readParts(body, boundary)) {
    begun++
    if (begun > mostParts) throw new Problem('body_too_large', `A form may have no more than ${mostParts} parts.`)
    if (begun % partsAtOnce === 0) await othersTurn()
    const head = part.head === undefined ? undefined : readHead(part.head)
    if (head === undefined) continue
    read++
    const { name: field, filename, isFile } = head
    if (!isFile) throw refusePart('validation_failed', field, 'is not a file; a file needs a filename')
    if (filename) yield { field, filename, start: part.start, content: part.content }
    else if (!(await isEmpty(part.content))) throw refusePart('validation_failed', field, 'must have a filename')
  }
  if (read < begun) throw partsPassedOver(begun, read)
}

/** What a browser sends for an input that no file was chosen in (WHATWG HTML, "constructing the entry list"). */
async function isEmpty(content: AsyncGenerator<Buffer>): Promise<boolean> {
  return (await content.next()).done === true
}

function partsPassedOver(parts: number, files: number): Problem {
  const rule = 'each needs one Content-Disposition: form-data in a well-formed header of at most 80 KB'
  return new Problem('malformed_multipart', `Of the ${parts} parts of the form ${files} can be read; ${rule}.`)
}
