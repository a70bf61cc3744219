import type { FastifyReply } from 'fastify'
import { NotFound } from '../../backends/errors.ts'
import type { EntryPath } from '../../backends/path.ts'
import type { HeaderName } from '../../plugins/request/openapi-headers.ts'
import { filenameOf } from '../../plugins/transfer/downloads/index.ts'
import type { VfolderFiles } from '../../plugins/vfolders/files.ts'
import { fileNotFound } from './refusal.ts'

/** What `sendBytes` reads. */
export const preconditions: HeaderName[] = ['If-Match', 'If-None-Match', 'If-Unmodified-Since']

/** Answers the manager with a file, as bytes of no type. */
export async function sendBytes(reply: FastifyReply, files: VfolderFiles, path: EntryPath): Promise<FastifyReply> {
  const sent = { kind: 'content', volume: files.volume.name } as const
  const presentation = {
    disposition: 'attachment',
    filename: filenameOf(path),
    contentType: 'application/octet-stream',
  } as const
  const file = await files.read(path, reply.request.abortSignal).catch((error: unknown) => {
    throw error instanceof NotFound ? fileNotFound(error.message) : error
  })
  return reply.sendFile(file, { sent, ...presentation })
}
