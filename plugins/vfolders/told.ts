import type { Amount, Entry } from '../../backends/backend.ts'
import type { NewEvent } from '../work/events/event.ts'
import type { NewVfolder } from './rows.ts'

// What is told of vfolders and what is in them: docs/events.md.

/** One event has no more files, and not much more text, so that it can be sent and read as a whole. */
const mostFiles = 500
const mostText = 64 * 1024

export interface Place {
  folder: string
  path: string
}

/** Something that can be seen at its path from now on. */
export interface Stored {
  path: string
  type: Entry['type']
  /** Of a directory, all that is in it. */
  size: number
  /** Where that is known: it passed through the service. */
  sha256?: string | undefined
  etag?: string | undefined
  /** How many files a directory has. */
  files?: number
  /** Whether there was a file in its place. */
  replaced: boolean
  /** What it is a copy of. */
  source?: Place
  requestId: string
  /** Of the request that signed the URL. */
  originRequestId?: string | undefined
}

export function vfolderCreated({ id, volume }: Pick<NewVfolder, 'id' | 'volume'>, adopted = false): NewEvent {
  return { type: 'vfolder.created', folder: id, volume: volume.name, data: { adopted } }
}

export function vfolderCloned(id: string, source: string, { files, bytes }: Amount): NewEvent {
  return { type: 'vfolder.cloned', folder: id, data: { source, files, bytes } }
}

/** `restorable`: it is in the trash. */
export function vfolderDeleted(id: string, { volume, restorable }: { volume?: string; restorable: boolean }): NewEvent {
  return { type: 'vfolder.deleted', folder: id, ...(volume !== undefined && { volume }), data: { restorable } }
}

/** In as few events as it takes; each is under the request ID of its first file, and each file has its own. */
export function filesStored(folder: string, stored: Stored[]): NewEvent[] {
  return inParts(stored).map((files) => {
    const [first] = files
    const ids = first && { requestId: first.requestId, originRequestId: first.originRequestId }
    return { type: 'file.stored', folder, ...ids, data: { files } }
  })
}

export function filesDeleted(folder: string, paths: string[], restorable: boolean): NewEvent[] {
  return inParts(paths).map((paths) => ({ type: 'file.deleted', folder, data: { paths, restorable } }))
}

/** A move between two vfolders is told of both. */
export function fileMoved(folder: string, from: Place, to: Place): NewEvent {
  return { type: 'file.moved', folder, data: { from, to } }
}

export function fileRestored(folder: string, path: string, from: string): NewEvent {
  return { type: 'file.restored', folder, data: { path, from } }
}

interface Expired {
  id: string
  vfolder: string
  path: string
  offset: number
  size: number | null
  request_id: string
  origin_request_id: string
}

/** Of a client's upload that did not go on, under the request that began it. */
export function uploadExpired({ id, vfolder, path, offset, size, ...row }: Expired): NewEvent {
  const data = { upload: id, path, offset, size, originRequestId: row.origin_request_id }
  const ids = { requestId: row.request_id, originRequestId: row.origin_request_id }
  return { type: 'upload.expired', folder: vfolder, ...ids, data }
}

function inParts<T>(items: T[]): T[][] {
  const parts: T[][] = []
  let text = mostText
  for (const item of items) {
    const length = JSON.stringify(item).length
    const part = parts.at(-1)
    text += length
    if (part !== undefined && part.length < mostFiles && text <= mostText) {
      part.push(item)
    } else {
      parts.push([item])
      text = length
    }
  }
  return parts
}
