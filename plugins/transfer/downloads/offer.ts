import type { FastifyReply } from 'fastify'
import { IsADirectory } from '../../../backends/errors.ts'
import type { EntryPath } from '../../../backends/path.ts'
import type { Rate } from '../../access/rates.ts'
import type { VfolderFiles } from '../../vfolders/files.ts'
import { type Presentation, presentationHeaders } from './presentation.ts'
import { storageCanAnswer } from './redirect.ts'

export interface OfferOptions extends Presentation {
  /** When the permission of the client's URL ends, in seconds since 1970. */
  expiresAt: number
  rate?: Rate | undefined
  cacheControl?: string | undefined
}

/** A client follows a redirect at once; to go on later it comes here again. */
const redirectSeconds = 60

/**
 * Answers a client with a file: by the storage itself or by the front server, where the volume is set to that and they
 * can do what is asked, else with its bytes.
 */
export async function offerFile(
  reply: FastifyReply,
  files: VfolderFiles,
  path: EntryPath,
  { expiresAt, rate, cacheControl, ...presentation }: OfferOptions,
): Promise<FastifyReply> {
  const { request } = reply
  const { abortSignal: signal } = request
  const { name, redirect, handOver } = files.volume
  // A presigned URL is for one method, so a HEAD is answered here; and the storage would know of no rate.
  if (redirect && rate === undefined && request.method === 'GET') {
    const entry = await files.stat(path, signal)
    if (entry.type !== 'file') throw new IsADirectory(`${path} is a directory`)
    if (storageCanAnswer(request.headers, entry)) {
      const left = Math.max(1, expiresAt - Math.floor(Date.now() / 1000))
      const expiresInSeconds = Math.min(left, redirectSeconds)
      const url = await files.presign(path, { ...presentationHeaders(presentation), expiresInSeconds, signal })
      return reply.header('cache-control', 'no-store').redirect(url, 307)
    }
  }
  const sent = { kind: 'download', volume: name } as const
  return reply.sendFile(await files.read(path, signal), { ...presentation, sent, rate, handOver, cacheControl })
}
