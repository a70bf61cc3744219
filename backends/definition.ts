import type { Static, TSchema } from '@sinclair/typebox'
import type { FastifyBaseLogger } from 'fastify'
import type { Backend } from './backend.ts'

export interface CreateContext<Options> {
  options: Options
  log: FastifyBaseLogger
  /** Aborts when the service closes. */
  signal: AbortSignal
  /**
   * What nobody has touched for so long is garbage: what is at work touches its own oftener. A client that sends nothing
   * is cut off after half of that, but not while it is the backend that lets it wait.
   */
  idleSeconds: number
}

/** A kind of storage: what its options are and how one is made from them. */
export interface BackendDefinition<Options extends TSchema = TSchema> {
  /** The name that a volume's configuration uses. */
  type: string
  /** Checked before `create` is called; a member it does not know is refused. */
  options: Options
  /**
   * How long a call on a volume may move nothing, where its configuration does not say. 0, no limit, is for a backend
   * that limits the time of whatever it asks its storage for.
   */
  timeoutSeconds?: number
  /** @throws when the storage cannot be used; the service then does not start */
  create(context: CreateContext<Static<Options>>): Promise<Backend>
}

/** Ties the type of `create`'s options to the schema; the registry forgets it again. */
export function defineBackend<Options extends TSchema>(definition: BackendDefinition<Options>): BackendDefinition {
  return definition
}
