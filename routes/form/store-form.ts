import { addAbortSignal } from 'node:stream'
import type { FastifyMultipartBaseOptions, Multipart, MultipartFile } from '@fastify/multipart'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { brokenRule, type EntryPath, parsePath } from '../../backends/path.ts'
import { Problem, type ProblemCode, withMembers } from '../../lib/problems.ts'
import type { Rate } from '../../plugins/access/rates.ts'
import { toRequestProblem } from '../../plugins/request/errors.ts'
import type { VfolderFiles } from '../../plugins/vfolders/files.ts'
import type { StoredFile, Upload } from '../../plugins/vfolders/write.ts'
import { followOutline, type Outline } from './outline.ts'

/** Options of @fastify/multipart, in the scope of a route that stores a form. */
export const formOptions: FastifyMultipartBaseOptions = {
  preservePath: true,
  // The sizes of files are limited where they are stored: a limit here would cut a file short without an error.
  limits: { fileSize: Number.POSITIVE_INFINITY, files: 100_000, parts: 100_000 },
}

interface FormOptions {
  /** That the files' names are relative to; undefined for the vfolder's root. */
  directory: EntryPath | undefined
  /** Of each file. */
  maxBytes: number
  rate?: Rate | undefined
}

/** Stores the files of a form, one after the other. When one fails, those before it stay, and the problem names them. */
export async function storeForm(
  files: VfolderFiles,
  request: FastifyRequest,
  reply: FastifyReply,
  { directory, maxBytes, rate }: FormOptions,
): Promise<StoredFile[]> {
  const stored: StoredFile[] = []
  const { abortSignal: signal } = request
  const outline = followOutline(request)
  const parts = readFormFiles(request, outline)
  let upload: Upload | undefined
  try {
    reply.willReadBody()
    for await (const part of parts) {
      const target = targetOf(part, directory)
      upload ??= files.upload({ bytes: outline.announcedBytes(), partly: true })
      const { path, size, sha256 } = await upload.write(target, request.paced(readContent(part, signal), rate), {
        maxBytes,
        signal,
      })
      stored.push({ path, size, sha256 })
    }
    if (stored.length === 0) throw new Problem('malformed_multipart', 'The form has no file.')
  } catch (error) {
    throw stored.length === 0 ? error : withMembers(toRequestProblem(error, request), { files: stored })
  } finally {
    await upload?.end()
  }
  return stored
}

/** The files of a form as they come; anything else in it is refused. */
async function* readFormFiles(request: FastifyRequest, outline: Outline): AsyncGenerator<MultipartFile> {
  let read = 0
  try {
    for await (const part of request.parts()) {
      if (part.type === 'field') throw toRefusal('validation_failed', part, 'is not a file; a file needs a filename')
      read++
      if (part.filename) yield part
      else if (!(await isEmpty(part))) throw toRefusal('validation_failed', part, 'must have a filename')
    }
    if (read !== outline.parts()) throw partsPassedOver(outline.parts(), read)
  } catch (error) {
    throw asMultipartProblem(error)
  }
}

/** What a browser sends for an input that no file was chosen in (WHATWG HTML, "constructing the entry list"). */
async function isEmpty({ file }: MultipartFile): Promise<boolean> {
  for await (const chunk of file) if (chunk.length > 0) return false
  return true
}

function partsPassedOver(parts: number, files: number): Problem {
  const rule = 'each needs Content-Disposition: form-data in a well-formed header of at most 80 KB'
  return new Problem('malformed_multipart', `Of the ${parts} parts of the form ${files} can be read; ${rule}.`)
}

function toRefusal(code: ProblemCode, { fieldname: field }: Multipart, rule: string): Problem {
  return new Problem(code, `body ${field} ${rule}`, { members: { field, rule, in: 'body' } })
}

/**
 * Where a file goes. Browsers and curl write a quote and a line break in a name as these, and nothing else (WHATWG HTML,
 * section "multipart/form-data encoding algorithm").
 */
function targetOf(part: MultipartFile, directory: EntryPath | undefined): EntryPath {
  const name = part.filename.replaceAll('%22', '"').replaceAll('%0D', '\r').replaceAll('%0A', '\n')
  // The parser has put U+FFFD where it met other bytes.
  const rule = name.includes('\ufffd') ? 'must be valid UTF-8' : brokenRule(name)
  if (rule !== undefined) throw toRefusal('invalid_path', part, `filename ${rule}`)
  if (directory === undefined) return parsePath(name)
  const path = `${directory}/${name}`
  const ruleOfPath = brokenRule(path)
  if (ruleOfPath !== undefined) throw toRefusal('invalid_path', part, `filename with the path before it ${ruleOfPath}`)
  return parsePath(path)
}

async function* readContent({ file }: MultipartFile, signal: AbortSignal): AsyncGenerator<Buffer> {
  addAbortSignal(signal, file)
  try {
    for await (const chunk of file) yield chunk
  } catch (error) {
    throw asMultipartProblem(error)
  }
  if (file.truncated) throw new Problem('file_too_large', 'A file was cut at a limit of the form.')
}

/** The parser's own errors have no code: they are about what was sent. */
function asMultipartProblem(error: unknown): unknown {
  if (!(error instanceof Error) || 'code' in error) return error
  return new Problem('malformed_multipart', error.message, { cause: error })
}
