const brand = Symbol.for('storage-proxy.BackendError')

/**
 * What a backend throws. A backend knows nothing of HTTP: the `code` is stable and is translated to a status in one
 * place, the service's error handler. The message is shown to the caller, so it names entries by their path inside the
 * vfolder and never by a path of the host.
 */
export abstract class BackendError extends Error {
  abstract readonly code: string
  readonly [brand] = true

  /** Told by the class's name: a plugin has a copy of this module of its own, with classes of its own. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (!(value instanceof Error) || !(brand in value)) return false
    for (let type = Object.getPrototypeOf(value); type !== null; type = Object.getPrototypeOf(type)) {
      // biome-ignore lint/complexity/noThisInStatic: the class that `instanceof` is asked about
      if (type.constructor.name === this.name) return true
    }
    return false
  }
}

export class NotFound extends BackendError {
  readonly code = 'entry_not_found'
}

export class AlreadyExists extends BackendError {
  readonly code = 'entry_exists'
}

/** The entry is not the one that the caller expects to replace. */
export class PreconditionFailed extends BackendError {
  readonly code = 'precondition_failed'
}

export class IsADirectory extends BackendError {
  readonly code = 'is_a_directory'
}

export class NotADirectory extends BackendError {
  readonly code = 'not_a_directory'
}

/** There is no resumable upload of that ID. */
export class UploadNotFound extends BackendError {
  readonly code = 'upload_not_found'
}

/** The entry is neither a file nor a directory: a socket, a FIFO, a device. */
export class NotAFile extends BackendError {
  readonly code = 'not_a_file'
}

export class NotEmpty extends BackendError {
  readonly code = 'directory_not_empty'
}

/** The path itself breaks a rule; see `splitPath`. */
export class InvalidPath extends BackendError {
  readonly code = 'invalid_path'
}

/** The path leads out of its vfolder, through a symlink. */
export class OutsideFolder extends BackendError {
  readonly code = 'outside_vfolder'
}

/** An operation that makes no sense, such as moving a directory into itself. */
export class InvalidOperation extends BackendError {
  readonly code = 'invalid_operation'
}

/** The bytes received are not the bytes announced. */
export class SizeMismatch extends BackendError {
  readonly code = 'size_mismatch'
}

/** The storage is full. */
export class NoSpace extends BackendError {
  readonly code = 'no_space'
}

/** A limit that the storage itself keeps was reached. */
export class QuotaExceeded extends BackendError {
  readonly code = 'quota_exceeded'
}

/** The source did not rest for as long as it takes to copy or read it. */
export class SourceChanged extends BackendError {
  readonly code = 'source_changed'
}

/** An entry's owner, mode or attributes do not let this service do it; the storage is well. */
export class EntryAccessDenied extends BackendError {
  readonly code = 'entry_access_denied'
}

/** The storage refuses this service, whatever the entry: wrong credentials or owner, read-only. */
export class AccessDenied extends BackendError {
  readonly code = 'storage_access_denied'
}

/** The storage does not answer now, and may later. */
export class Unavailable extends BackendError {
  readonly code: 'storage_unavailable' | 'volume_unavailable' = 'storage_unavailable'
}

/** What answers in the place of the volume is another storage, or an empty one. */
export class VolumeUnavailable extends Unavailable {
  override readonly code = 'volume_unavailable'
}

/** An `Amount`, less than nothing where there is less than before. */
interface Change {
  readonly files: number
  readonly bytes: number
}

/**
 * A change was made and is seen, and then the storage failed, so that nobody knows whether it will last. It counts: the
 * caller is told by how much the usage has changed.
 */
export class Unconfirmed extends Unavailable {
  readonly change: Change

  constructor(path: string, change: Change, options: { cause: unknown }) {
    super(`${path} was changed, but the storage failed before that was sure to last`, options)
    this.change = change
  }
}

/** Does what follows a change that is seen already. @throws {Unconfirmed} for any failure */
export async function afterChange<T>(path: string, change: Change, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    throw new Unconfirmed(path, change, { cause })
  }
}

/** The tool by which the service asks the storage for limits and the like fails. The storage itself may be well. */
export class ToolFailed extends BackendError {
  readonly code = 'storage_tool_failed'
}

/** Another writer of the same file does not come to its end, but may later. The storage is well. */
export class Busy extends BackendError {
  readonly code = 'entry_busy'
}

/** So many calls of the volume wait for their turn that the service takes no more. */
export class TooManyCalls extends BackendError {
  readonly code = 'too_many_calls'
}

export type BackendErrorCode = (
  | NotFound
  | AlreadyExists
  | PreconditionFailed
  | IsADirectory
  | NotADirectory
  | NotAFile
  | UploadNotFound
  | NotEmpty
  | InvalidPath
  | OutsideFolder
  | InvalidOperation
  | SizeMismatch
  | NoSpace
  | QuotaExceeded
  | SourceChanged
  | EntryAccessDenied
  | AccessDenied
  | Unavailable
  | ToolFailed
  | Busy
  | TooManyCalls
)['code']
