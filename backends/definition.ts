import type { Static, TSchema } from '@sinclair/typebox'
import type { FastifyBaseLogger } from 'fastify'
import type { Backend } from './backend.ts'

/** A command that was sent to the storage's server, with its repetitions. */
export interface Command {
  /** One of a bounded number of names. */
  name: string
  /** How often it was sent. */
  attempts: number
  seconds: number
  failed: boolean
}

export interface CreateContext<Options> {
  options: Options
  log: FastifyBaseLogger
  /** Aborts when the service closes. */
  signal: AbortSignal
  /**
   * Bytes that nobody has touched for so long are garbage: live work touches its own more often. A client that sends
   * nothing is cut off after half of that time, but not while the backend makes it wait.
   */
  idleSeconds: number
  /** How long a call may move nothing; 0: without limit. */
  timeoutSeconds?: number
  /** Absent where there is no service, as in a test. */
  numbers?: FolderNumbers
  /** The ID of the request, or of the work, that the calling code runs for, to be passed on to what it asks. */
  requestId?: () => string | undefined
  /** The `traceparent` (W3C Trace Context) of that work, if it has one, to be passed on to a server. */
  traceparent?: () => string | undefined
  /** The volume was used before. What is missing then is away, and must not be made anew. */
  isKnown?: boolean
  /** A backend that speaks to a server tells of each command here, for the metrics. */
  onCommand?(command: Command): void
}

/**
 * Numbers of the vfolders of a volume, for a storage that knows a directory by a number, as one with project quotas does.
 * They are kept in the database, from 1 on, and no two vfolders ever have the same, on whichever volumes.
 */
export interface FolderNumbers {
  find(folder: string): Promise<number | undefined>
  /**
   * Gives a vfolder its number, unless it has one. One that turned out to be `taken` on the storage is replaced by one
   * that is at least so much higher.
   */
  allot(folder: string, replacing?: { taken: number; skip: number }): Promise<number>
  forget(folder: string): Promise<void>
}

/** A kind of storage: what its options are and how one is made from them. */
export interface BackendDefinition<Options extends TSchema = TSchema> {
  /** The name that a volume's configuration uses. */
  type: string
  /** Checked before `create` is called; a member it does not know is refused. */
  options: Options
  /**
   * How long a call may move nothing, unless the volume's configuration says it. 0, no limit, is for a backend that
   * limits the time of all its requests to the storage.
   */
  timeoutSeconds?: number
  /**
   * Where volumes with these options keep their bytes: names of what contains them, the outermost first, and last of
   * the place that is theirs alone. Two volumes of one type, of which one is in the place of the other, stop the start
   * before anything is made. Each name tells its place from all others of the type.
   */
  places?(options: Static<Options>): Promise<string[]>
  /** @throws when the storage cannot be used; the service then does not start */
  create(context: CreateContext<Static<Options>>): Promise<Backend>
}

/** Ties the type of `create`'s options to the schema; the registry forgets it again. */
export function defineBackend<Options extends TSchema>(definition: BackendDefinition<Options>): BackendDefinition {
  return definition
}
