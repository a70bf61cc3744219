import type { FastifyReply, FastifyRequest } from 'fastify'
import { brokenRule, type EntryPath, parsePath } from '../../backends/path.ts'
import { Problem, withMembers } from '../../lib/problems.ts'
import type { Rate } from '../../plugins/access/rates.ts'
import { toRequestProblem } from '../../plugins/request/errors.ts'
import { bodyOf } from '../../plugins/transfer/body.ts'
import type { VfolderFiles } from '../../plugins/vfolders/files.ts'
import type { StoredFile, Upload } from '../../plugins/vfolders/write.ts'
import { boundaryOf, type FormFile, readFormFiles } from './files.ts'
import { longestHead } from './parts.ts'
import { refusePart } from './refuse-part.ts'

/** Of all files of a form: the answer names them. */
const mostPathBytes = 16 * 1024 * 1024

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
  if (!request.isMultipart()) throw new request.server.multipartErrors.InvalidMultipartContentTypeError()
  const boundary = boundaryOf(request)
  const { abortSignal: signal } = request
  if (reply.isAwaited()) await refuseTooLarge(files, leastBytes(request, boundary), maxBytes, signal)
  const stored: StoredFile[] = []
  let pathBytes = 0
  let upload: Upload | undefined
  try {
    reply.willReadBody()
    for await (const file of readFormFiles(bodyOf(request.raw, { rate }), boundary)) {
      const target = targetOf(file, directory)
      pathBytes += Buffer.byteLength(target)
      if (pathBytes > mostPathBytes) {
        throw new Problem('body_too_large', `The paths of a form's files may have ${mostPathBytes} bytes in all.`)
      }
      upload ??= files.upload({ bytes: announcedBytes(request, boundary, file), partly: true })
      const options = { maxBytes, signal }
      const { path, size, sha256 } = await upload.write(target, request.paced(file.content, rate), options)
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

/**
 * Refuses a form whose client waits to be told whether to send it. It is taken for one file: what it has is known only
 * when it comes.
 * @throws {Problem} `file_too_large`, `quota_exceeded`, `no_space`
 */
async function refuseTooLarge(files: VfolderFiles, bytes: number, maxBytes: number, signal: AbortSignal) {
  const limit = Math.min(maxBytes, files.volume.backend.limits.maxFileBytes)
  if (bytes > limit) {
    const detail = `The form is over the limit of ${limit} bytes for a file; several files need no Expect: 100-continue.`
    throw new Problem('file_too_large', detail, { members: { maxBytes: limit } })
  }
  await files.requireRoom(bytes, signal)
}

/** How many bytes of content a form of one file announces at least. */
function leastBytes({ headers }: FastifyRequest, boundary: string): number {
  const delimiters = `--${boundary}\r\n\r\n--${boundary}--\r\n`.length
  return Math.max(0, Number(headers['content-length'] ?? 0) - longestHead - delimiters)
}

/**
 * How many bytes of files the form announces, when its first file begins: all that follows but the end of the form. That
 * is exact for one file, a little more than the truth for several, and 0 when the request does not say its size.
 */
function announcedBytes({ headers }: FastifyRequest, boundary: string, { start }: FormFile): number {
  const end = `\r\n--${boundary}--\r\n`.length
  return Math.max(0, Number(headers['content-length'] ?? 0) - start - end)
}

/** Where a file goes. */
function targetOf({ field, filename }: FormFile, directory: EntryPath | undefined): EntryPath {
  const rule = brokenRule(filename)
  if (rule !== undefined) throw refusePart('invalid_path', field, `filename ${rule}`)
  if (directory === undefined) return parsePath(filename)
  const path = `${directory}/${filename}`
  const ruleOfPath = brokenRule(path)
  if (ruleOfPath !== undefined)
    throw refusePart('invalid_path', field, `filename with the path before it ${ruleOfPath}`)
  return parsePath(path)
}
