/** What was done. An action of a job or of a request that is ended by somebody else is one of its own. */
export const actions = [
  'folder.create',
  'folder.update',
  'folder.clone',
  'folder.delete',
  'folder.restore',
  'folder.sync',
  'folder.adopt',
  'folder.remove-orphan',
  'volume.accept',
  'quota-scope.set',
  'quota-scope.delete',
  'url.sign',
  'file.store',
  'file.read',
  'archive.read',
  'directory.create',
  'entry.move',
  'entry.copy',
  'entry.delete',
  'entry.restore',
  'trash.empty',
  'upload.begin',
  'upload.append',
  'upload.end',
  'job.queue',
  'job.attempt',
  'job.end',
  'job.cancel',
  'job.retry',
  'event.deliver',
  'event.send',
] as const

/** A call of a backend is one, by its operation, only when it failed or was slow. */
export type Action = (typeof actions)[number] | `storage.${string}`

/**
 * How it ended. `refused`: it is the caller's doing; `aborted`: the connection was gone before the answer; `begun`: a job does
 * it, which tells of its end. An attempt of a job is `begun`, and then `repeated` when it is tried again, `interrupted` when
 * its process closes, or `lost` when that has died; `slow` is a call of a backend that did what it was asked for.
 */
export type Outcome =
  | 'succeeded'
  | 'refused'
  | 'failed'
  | 'aborted'
  | 'cancelled'
  | 'expired'
  | 'begun'
  | 'repeated'
  | 'interrupted'
  | 'lost'
  | 'slow'

export interface Facts {
  action: Action
  /** Absent: `succeeded`. */
  outcome?: Outcome
  /** Why it did not succeed. */
  code?: string | undefined
  volume?: string | undefined
  folder?: string | undefined
  path?: string | undefined
  /** Of several entries or URLs; of a call of a backend its milliseconds. */
  count?: number | undefined
  bytes?: number | undefined
  /** The job, upload, quota scope or entry of the trash that it is about. */
  subject?: string | undefined
  /** Of an attempt of a job. */
  process?: string | undefined
  /** The request that it goes back to, where the context does not know it. */
  origin?: string | undefined
}
