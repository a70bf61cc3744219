import { Notice } from '../../lib/notice.ts'

/** What a client, or the manager, is sent. */
export type SentKind = 'download' | 'content' | 'archive'

/** What goes out, and the volume that it comes from. */
export interface Sent {
  kind: SentKind
  volume: string
}

/** Bytes of a body went to a client. */
export const bytesSent = new Notice<[kind: SentKind, volume: string, bytes: number]>()
