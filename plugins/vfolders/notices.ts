import type { Amount } from '../../backends/backend.ts'
import { Notice } from '../../lib/notice.ts'

/** By what clients send files. */
export type UploadKind = 'put' | 'form' | 'tus'

/** Bytes came from a client, on their way to a volume. */
export const bytesReceived = new Notice<[kind: UploadKind, volume: string, bytes: number]>()

/** `direct`: its client sends the bytes to the storage itself. */
export type ResumableKind = 'tus' | 'direct'

/** `ended`: by its client or its vfolder's owner. */
export type UploadEvent = 'begun' | 'resumed' | 'finished' | 'expired' | 'ended'

/** A resumable upload has come to a point of its life. */
export const uploadPassed = new Notice<[event: UploadEvent, kind: ResumableKind]>()

/** The counters of a vfolder were put right, by so much. */
export const usagePutRight = new Notice<[volume: string, drift: Amount]>()
