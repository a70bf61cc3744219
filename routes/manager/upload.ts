import { addAbortSignal } from 'node:stream'
import multipart, { type Multipart, type MultipartFile } from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { brokenRule } from '../../backends/path.ts'
import { toProblem } from '../../plugins/errors.ts'
import { Problem, type ProblemCode } from '../../plugins/problems.ts'
import type { StoredFile, Upload } from '../../plugins/vfolder-upload.ts'
import { Bytes, Path, problemResponses, Uuid } from '../schemas.ts'
import { announcedBytes } from './form-size.ts'

const StoredFileBody = Type.Object({
  path: Type.String(),
  size: Bytes,
  sha256: Type.String({ description: 'hexadecimal, of the bytes as they came' }),
})

const routes: FastifyPluginAsyncTypebox = async (app) => {
  await app.register(multipart, {
    preservePath: true,
    // The sizes of files are limited where they are stored: a limit here would cut a file short without an error.
    limits: { fileSize: Number.POSITIVE_INFINITY, files: 100_000, parts: 100_000 },
  })

  app.post(
    '/folders/upload',
    {
      schema: {
        tags: ['files'],
        summary: 'Upload files in one multipart form',
        description:
          "Each file goes to `path`, then its part's `filename`, which may have directories. A file is there whole or " +
          'not at all; when one fails, those before it stay and are named in the problem as `files`.',
        consumes: ['multipart/form-data'],
        querystring: Type.Object({ folder: Uuid, path: Type.Optional(Path) }, { additionalProperties: false }),
        response: { 201: Type.Object({ files: Type.Array(StoredFileBody) }), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { folder, path } = request.query
      const files = await app.vfolders.files(folder)
      const stored: StoredFile[] = []
      const options = { maxBytes: app.config.uploadMaxBytes, signal: request.abortSignal }
      const announced = announcedBytes(request)
      const parts = formFiles(request.parts())
      let upload: Upload | undefined
      try {
        for await (const part of parts) {
          const name = formFilename(part)
          const target = path === undefined ? name : `${path}/${name}`
          upload ??= files.upload({ bytes: announced(), partly: true })
          stored.push(await upload.write(target, contents(part, request.abortSignal), options))
        }
        if (stored.length === 0) throw new Problem('malformed_multipart', 'The form has no file.')
      } catch (error) {
        throw withStored(error, stored)
      } finally {
        await upload?.end()
      }
      return reply.code(201).send({ files: stored })
    },
  )
}

export default routes

/** The files of a form as they come; anything else in it is refused. */
async function* formFiles(parts: AsyncIterable<Multipart>): AsyncGenerator<MultipartFile> {
  try {
    for await (const part of parts) {
      if (part.type === 'field') throw refused('validation_failed', part, 'is not a file; a file needs a filename')
      if (!part.filename) throw refused('validation_failed', part, 'must have a filename')
      yield part
    }
  } catch (error) {
    throw asMultipartProblem(error)
  }
}

function refused(code: ProblemCode, { fieldname: field }: Multipart, rule: string): Problem {
  return new Problem(code, `body ${field} ${rule}`, { members: { field, rule, in: 'body' } })
}

/**
 * Browsers and curl write a quote and a line break in a name as these, and nothing else (WHATWG HTML, section
 * "multipart/form-data encoding algorithm").
 */
function formFilename(part: MultipartFile): string {
  const name = part.filename.replaceAll('%22', '"').replaceAll('%0D', '\r').replaceAll('%0A', '\n')
  // The parser has put U+FFFD where it met other bytes.
  const rule = name.includes('\ufffd') ? 'must be valid UTF-8' : brokenRule(name)
  if (rule !== undefined) throw refused('invalid_path', part, `filename ${rule}`)
  return name
}

async function* contents({ file }: MultipartFile, signal: AbortSignal): AsyncGenerator<Buffer> {
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

function withStored(error: unknown, files: StoredFile[]): unknown {
  if (files.length === 0) return error
  const problem = toProblem(error)
  return new Problem(problem.code, problem.message, { cause: error, members: { ...problem.members, files } })
}
