import type { Generated, Kysely } from 'kysely'
import type { Entry } from '../../../backends/backend.ts'

/** In order: made, or filled by a job; in use; deleted, and can be restored; vanishing. */
export const vfolderStates = ['creating', 'cloning', 'ready', 'trashed', 'deleting'] as const

/** In order: on its way into the trash; there; on its way back, or being removed for good. */
export const trashStates = ['leaving', 'kept', 'returning', 'emptying'] as const

/** In order: waiting; under way; ended. */
export const jobStates = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const

/** How an attempt of a job ended. */
export const attemptOutcomes = ['succeeded', 'failed', 'cancelled', 'repeated', 'interrupted', 'lost'] as const
/** An event that a target did not take in its turn: is tried again, or behind such a one; or was given up. */
export const letterStates = ['waiting', 'dead'] as const

/** A transaction or, for a statement of its own, the database. */
export type Database = Kysely<Tables>

/** Rows as the database has them; times are ISO 8601 in UTC, JSON is text. */
export interface Tables {
  vfolders: {
    id: string
    volume: string
    state: (typeof vfolderStates)[number]
    quota_bytes: number | null
    quota_files: number | null
    quota_scope: string | null
    usage_bytes: Generated<number>
    usage_files: Generated<number>
    usage_synced_at: string | null
    reserved_bytes: Generated<number>
    reserved_files: Generated<number>
    /** Counts the changes of the usage, also those that may be about to happen. */
    revision: Generated<number>
    metadata: string
    /** The job that made it: a clone's, or the first one of what was adopted. */
    clone_job: string | null
    created_at: string
    /** When it was put into the trash, in milliseconds since 1970; null: it is not there. */
    trashed_at: number | null
    /** The request that put it there. */
    trashed_by: string | null
    /** Whether it still counts in its scope while it is there. */
    trash_counts: Generated<number>
  }
  /** Entries that were deleted and can be restored. */
  trashed_entries: {
    /** Also its name in the trash of the vfolder. */
    id: string
    vfolder: string
    /** Where it was. */
    path: string
    /** Where it is being restored to. */
    target: string | null
    type: Entry['type']
    bytes: Generated<number>
    files: Generated<number>
    /** Whether they are in the usage of the vfolder. */
    counts: number
    state: (typeof trashStates)[number]
    /** The process that moves it; null: none does. */
    process: string | null
    /** The request that deleted it. */
    request_id: string
    /** Milliseconds since 1970. */
    deleted_at: number
    /** When its state changed last. */
    changed_at: number
  }
  quota_scopes: {
    scope: string
    /** 0: vfolders name it, and nobody has given it limits. */
    is_defined: Generated<number>
    quota_bytes: number | null
    quota_files: number | null
    /** Of all its vfolders, except those in deletion; the database itself counts them along. */
    usage_bytes: Generated<number>
    usage_files: Generated<number>
    reserved_bytes: Generated<number>
    reserved_files: Generated<number>
  }
  /** Room in a vfolder that work under way has set aside. */
  reservations: {
    id: string
    vfolder: string
    process: string
    bytes: number
    files: number
    request_id: string
    created_at: string
  }
  /** Resumable uploads, and for a while the finished ones. */
  uploads: {
    id: string
    vfolder: string
    path: string
    /** SHA-256 of the token that its URL carries, in hexadecimal. */
    token_hash: string
    /**
     * `completing`: its file may have appeared already. `ended`: before it was a file, by somebody who wants no more of
     * it; kept only where its name would begin it again.
     */
    state: 'open' | 'completing' | 'finished' | 'ended'
    /**
     * `partial`: becomes no file of its own, but a part of a final one. `direct`: its client sends the bytes to the
     * storage itself.
     */
    kind: 'whole' | 'partial' | 'final' | 'direct'
    /** Null until the client says it. */
    size: number | null
    /** The bytes before it are durable. */
    offset: number
    max_bytes: number
    /** Of the signed URL that began it; null: no limit. */
    bytes_per_second: number | null
    /** The key of that URL. */
    url_key: string | null
    /** Room that it has set aside in its vfolder. */
    reserved_bytes: number
    reserved_files: number
    /** What its file replaces, written down before it does. */
    replaced_bytes: Generated<number>
    replaced_files: Generated<number>
    /** As the client gave it, and as HTTP gives it back. */
    metadata: string | null
    /** Of a final upload: the URLs of its parts, as the client gave them. */
    parts: string | null
    /** Of a partial upload: the final upload that it belongs to, and ends with. */
    final: string | null
    sha256: string | null
    /** The process that writes to it. */
    process: string | null
    /** Another request wants to go on with it. */
    wanted: Generated<number>
    /** The request that began it. */
    request_id: string
    /** The request that signed the URL. */
    origin_request_id: string
    /** Milliseconds since 1970. */
    expires_at: number
    /** The same: until when a name that it had before it was begun can begin an upload. Null: it had none. */
    named_until: number | null
    created_at: string
  }
  jobs: {
    id: string
    /** Grows from job to job, even when the clock is set back. */
    sequence: number
    kind: string
    vfolder: string | null
    /** The volumes that a process must have to run it; null: any will do. */
    volume: string | null
    source_volume: string | null
    payload: string
    state: (typeof jobStates)[number]
    request_id: string
    trace_id: string | null
    /** What the job's own requests to others, and its part of the trace, go on from. */
    traceparent: string | null
    /** The process that runs it. */
    process: string | null
    attempts: Generated<number>
    /** Failed attempts in a row, without a step forward in between. */
    failures: Generated<number>
    /** Milliseconds since 1970; 0: at once. */
    due_at: number
    cancel_requested: Generated<number>
    /** It may not be cancelled or given up any more. */
    committed: Generated<number>
    checkpoint: string | null
    files_done: Generated<number>
    files_total: number | null
    bytes_done: Generated<number>
    bytes_total: number | null
    result: string | null
    error: string | null
    /** Counts the changes that a watcher sees. */
    version: Generated<number>
    created_at: string
    /** When it was queued once more; null: never. */
    queued_again_at: string | null
    started_at: string | null
    finished_at: string | null
  }
  /** What became of the runs of each job. */
  job_attempts: {
    job: string
    /** 1 for the first. */
    number: number
    process: string
    started_at: string
    /** Null: it runs, or its process died and nobody has gone on with the job. */
    ended_at: string | null
    outcome: (typeof attemptOutcomes)[number] | null
    error: string | null
  }
  /** Who did what, and how it ended; rows are added, and removed when they are old, and never changed. */
  audit: {
    sequence: Generated<number>
    /** Milliseconds since 1970. */
    time: number
    request_id: string
    /** The request that signed the URL, or that deleted what is restored. */
    origin_request_id: string | null
    /** Rows of one request among several under the same ID; null: it has no other row. */
    act: string | null
    actor: string
    action: string
    volume: string | null
    vfolder: string | null
    path: string | null
    /** Of several entries or URLs. */
    count: number | null
    bytes: number | null
    outcome: string
    code: string | null
    /** The job, upload, quota scope or entry of the trash that it is about. */
    subject: string | null
    /** Of an attempt of a job. */
    process: string | null
  }
  /** One row: tells this database from others. */
  database_identity: {
    id: string
  }
  /** The volumes that were used with this database. */
  volumes: {
    name: string
    /** Null: from before there were identities. */
    identity: string | null
    /** Whether the volume has it, too: 0 until its first use is over. */
    is_marked: Generated<number>
  }
  /** The latest marks that were written into a volume's root. */
  volume_epochs: {
    volume: string
    epoch: string
    /** Milliseconds since 1970. */
    created_at: number
  }
  /** By which some storages know the vfolders of a volume. */
  folder_numbers: {
    volume: string
    folder: string
    number: number
  }
  /** One row: the last one that was given to a vfolder. */
  last_folder_number: {
    number: number
  }
  /** The processes of the service that are alive. */
  processes: {
    id: string
    beat: number
    /** The IDs of its signing keys, as JSON; the first signs. */
    signing_keys: Generated<string>
    /** The names of its volumes, as JSON. */
    volumes: Generated<string>
  }
  /** The secrets that a process made by itself, as what can be told of them. */
  generated_secrets: {
    name: string
    digest: string
  }
  /** What processes tell each other; on SQLite only, and only the latest. */
  notifications: {
    sequence: Generated<number>
    message: string
  }
  /** Which process runs a periodic task. */
  task_leases: {
    task: string
    process: string
  }
  /** What happened, to be told. */
  events: {
    number: Generated<number>
    /** Its place in the order in which all are told, without gaps; null: it has none yet. */
    position: number | null
    id: string
    type: string
    vfolder: string | null
    volume: string | null
    request_id: string
    origin_request_id: string | null
    /** What whoever is told of it gets, so that the telling is a part of the trace. */
    traceparent: string | null
    /** Milliseconds since 1970. */
    time: number
    data: string
  }
  /** One row. */
  event_positions: {
    /** The last one that was given. */
    last: number
    /** The last one whose event is not kept any more. */
    forgotten: number
  }
  /** Who is told of events, and how far. */
  event_targets: {
    name: string
    /** All up to it were taken, or are letters. */
    position: number
    /** The process that tells it. */
    process: string | null
    /** Rounds in a row in which it took nothing. */
    failures: Generated<number>
    /** When it is tried again, in milliseconds since 1970; 0: at once. */
    due_at: Generated<number>
    failing_since: number | null
    /** Why it took nothing, the last time. */
    error: string | null
  }
  /** The processes that a volume is unwell for, as events have told. */
  unwell_volumes: {
    volume: string
    process: string
  }
  /** The quotas that have so much that an event has told of it. */
  quota_warnings: {
    subject: 'vfolder' | 'quotaScope'
    name: string
    unit: 'bytes' | 'files'
  }
  event_letters: {
    target: string
    position: number
    /** Those of one lane are told in their order. */
    lane: string
    state: (typeof letterStates)[number]
    attempts: number
    due_at: number
    error: string | null
  }
}
