import type { FastifyReply, FastifyRequest } from 'fastify'
import { workAhead } from '../../backends/ahead.ts'
import type { Call } from '../../backends/backend.ts'
import { IsADirectory, NotADirectory, NotFound } from '../../backends/errors.ts'
import { gather } from '../../backends/gather.ts'
import { brokenRule, type EntryPath, parsePath } from '../../backends/path.ts'
import { Turns } from '../../backends/turns.ts'
import { Problem, withMembers } from '../../lib/problems.ts'
import type { Rate } from '../../plugins/access/rates.ts'
import { toRequestProblem } from '../../plugins/request/errors.ts'
import { bodyOf } from '../../plugins/transfer/body.ts'
import type { VfolderFiles } from '../../plugins/vfolders/files.ts'
import { type Announced, largeBytes, type StoredFile, smallBytes, tooLarge } from '../../plugins/vfolders/write.ts'
import { boundaryOf, type FormFile, mostParts, readFormFiles } from './files.ts'
import { longestHead } from './parts.ts'
import { refusePart } from './refuse-part.ts'

/** Of all files of a form: the answer names them. */
const mostPathBytes = 16 * 1024 * 1024

/** A file that comes slowly has its room set aside before. */
const patienceMilliseconds = 50

/** More at once are not stored faster. */
const smallFilesAtOnce = 32

interface FormOptions {
  /** That the files' names are relative to; undefined for the vfolder's root. */
  directory: EntryPath | undefined
  /** What the only file becomes, whatever its name; absent: each goes to its name. */
  path?: EntryPath | undefined
  /** Of each file. */
  maxBytes: number
  rate?: Rate | undefined
}

/**
 * Stores the files of a form: small ones several at a time, others one after the other. When one fails, those before it
 * stay, and so may small ones that were on their way with it; the problem names them.
 */
export async function storeForm(
  files: VfolderFiles,
  request: FastifyRequest,
  reply: FastifyReply,
  form: FormOptions,
): Promise<StoredFile[]> {
  if (!request.isMultipart()) throw new request.server.multipartErrors.InvalidMultipartContentTypeError()
  const { maxBytes, rate } = form
  const boundary = boundaryOf(request)
  const { abortSignal } = request
  await refuseUnfit(files, leastBytes(request, boundary), form, { isAwaited: reply.isAwaited(), signal: abortSignal })
  if (reply.isAwaited()) await refusePlace(files, form, abortSignal)
  const stored: StoredFile[] = []
  const perPath = new Turns()
  const over = new AbortController()
  let failure: unknown

  async function store({ index, target, announced, chunks, end }: Sent, { signal }: Call): Promise<void> {
    const upload = files.upload(announced, 'form')
    try {
      // The last of several files of one name stays.
      await perPath.run(target, { signal }, async () => {
        const options = { maxBytes, signal, ...(!announced.partly && { size: announced.bytes }) }
        const { path, size, sha256 } = await upload.write(target, request.paced(chunks, rate), options)
        stored[index] = { path, size, sha256 }
      })
    } catch (error) {
      // Told at once, not when the client has sent more.
      failure ??= error
      over.abort()
      throw error
    } finally {
      await upload.end().finally(end)
    }
  }

  /** A form that goes wrong ends there: the files before are stored. */
  async function* sent(): AsyncGenerator<Sent> {
    const body = bodyOf(request.raw, { rate, end: over.signal })
    // One who announces more than it may send sets no more aside than that.
    const mostBytes = Math.min(maxBytes, files.volume.backend.limits.maxFileBytes)
    const announced = (file: FormFile) => Math.min(mostBytes, announcedBytes(request, boundary, file))
    try {
      yield* readSent(readFormFiles(body, boundary), form, announced, () => failure !== undefined)
    } catch (error) {
      failure ??= error
    }
  }

  reply.willReadBody()
  const options = { signal: abortSignal, ahead: smallFilesAtOnce }
  try {
    for await (const _ of workAhead(sent(), options, store));
  } catch (error) {
    failure ??= error
  }
  const all = stored.filter((file) => file !== undefined)
  if (failure === undefined && all.length > 0) return all
  const error = failure ?? new Problem('malformed_multipart', 'The form has no file.')
  throw all.length === 0 ? error : withMembers(toRequestProblem(error, request), { files: all })
}

/** A file of a form, to be stored. */
interface Sent {
  index: number
  target: EntryPath
  chunks: AsyncIterable<Buffer>
  announced: Announced
  /** What comes next in the form is read only after it. */
  end(): void
}

async function* once(content: Buffer): AsyncGenerator<Buffer> {
  if (content.length > 0) yield content
}

/** The bytes of a file that must be the only one, which is known when the form has ended: before it appears. */
async function* contentAlone({ content }: FormFile, files: AsyncGenerator<FormFile>): AsyncGenerator<Buffer> {
  yield* content
  const next = await files.next()
  if (!next.done) throw refusePart('validation_failed', next.value.field, 'must be the only file')
}

/** Reads small files to their end, so that the next one can be read while they are stored. */
async function* readSent(
  files: AsyncGenerator<FormFile>,
  { directory, path, maxBytes }: FormOptions,
  announced: (file: FormFile) => number,
  hasFailed: () => boolean,
): AsyncGenerator<Sent> {
  let index = 0
  let pathBytes = 0
  for await (const file of files) {
    const target = path ?? targetOf(file, directory)
    pathBytes += Buffer.byteLength(target)
    if (pathBytes > mostPathBytes) {
      throw new Problem('body_too_large', `The paths of a form's files may have ${mostPathBytes} bytes in all.`)
    }
    const content = path === undefined ? file.content : contentAlone(file, files)
    const gathered = await gather(content, { most: smallBytes, patienceMilliseconds })
    const { promise: isStored, resolve: end } = Promise.withResolvers<void>()
    if (gathered.kind === 'whole') {
      const { content } = gathered
      if (content.length > maxBytes) throw tooLarge(target, maxBytes)
      yield { index: index++, target, chunks: once(content), announced: { bytes: content.length, partly: false }, end }
    } else {
      const { chunks } = gathered
      yield { index: index++, target, chunks, announced: { bytes: announced(file), partly: true }, end }
      await isStored
      if (hasFailed()) return
    }
  }
}

/**
 * Refuses, before its body is read, a form that announces more than can be stored. Where the client waits to be told
 * whether to send it, it is taken for one file: what it has is known only when it comes.
 * @throws {Problem} `file_too_large`, `body_too_large`, `quota_exceeded`, `no_space`
 */
async function refuseUnfit(
  files: VfolderFiles,
  bytes: number,
  { maxBytes, path }: FormOptions,
  { isAwaited, signal }: { isAwaited: boolean; signal: AbortSignal },
): Promise<void> {
  const limit = Math.min(maxBytes, files.volume.backend.limits.maxFileBytes)
  if (bytes > limit && (isAwaited || path !== undefined)) {
    const several = path === undefined ? '; several files need no Expect: 100-continue' : ''
    const detail = `The form is over the limit of ${limit} bytes for a file${several}.`
    throw new Problem('file_too_large', detail, { members: { maxBytes: limit } })
  }
  const most = mostParts * (limit + longestHead)
  if (bytes > most) {
    throw new Problem('body_too_large', `A form of ${mostParts} files of ${limit} bytes each has up to ${most} bytes.`)
  }
  // What is small is told as soon by the first file that does not fit.
  if (isAwaited || bytes > largeBytes) await files.requireRoom(bytes, signal)
}

/** @throws {IsADirectory} @throws {NotADirectory} where no file of the form could be stored */
async function refusePlace(files: VfolderFiles, { path, directory }: FormOptions, signal: AbortSignal) {
  const place = path ?? directory
  if (place === undefined) return
  const entry = await files.stat(place, signal).catch((error) => {
    if (error instanceof NotFound) return undefined
    throw error
  })
  if (path !== undefined && entry?.type === 'directory') throw new IsADirectory(`${place} is a directory`)
  if (path === undefined && entry?.type === 'file') throw new NotADirectory(`${place} is not a directory`)
}

/** How many bytes of content a form of one file announces at least. */
function leastBytes({ headers }: FastifyRequest, boundary: string): number {
  const delimiters = `--${boundary}\r\n\r\n--${boundary}--\r\n`.length
  return Math.max(0, Number(headers['content-length'] ?? 0) - longestHead - delimiters)
}

/**
 * How many bytes of files the form announces, when one begins: all that follows but the end of the form. That is exact
 * for the last file, more than the truth for one before, and 0 when the request does not say its size.
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
