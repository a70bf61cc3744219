import type { FastifyReply } from 'fastify'
import { bytesSent, type Sent } from '../notices.ts'

declare module 'fastify' {
  interface FastifyReply {
    /** What its body has sent so far, and of which volume. */
    sentSoFar: { volume: string; bytes: number } | null
  }
}

/** Bytes of its body go to the client. */
export function tellSent(reply: FastifyReply, { kind, volume }: Sent, bytes: number): void {
  const before = reply.sentSoFar?.bytes ?? 0
  reply.sentSoFar = { volume, bytes: before + bytes }
  bytesSent.give(kind, volume, bytes)
}
