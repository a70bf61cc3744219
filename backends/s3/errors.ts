import { S3ServiceException } from '@aws-sdk/client-s3'
import {
  AccessDenied,
  BackendError,
  Busy,
  InvalidOperation,
  InvalidPath,
  NoSpace,
  NotFound,
  PreconditionFailed,
  QuotaExceeded,
  SourceChanged,
  Unavailable,
  UploadNotFound,
} from '../errors.ts'

/** What the service asks for is not understood, not implemented or not for this server: no doing of a caller. */
export class CommandRefused extends AccessDenied {}

type Translation = (cause: Error) => BackendError

// Names of Amazon S3's API reference, "Error responses"; the others are of those who are named behind them.
const translations: Record<string, Translation> = {
  NoSuchKey: (cause) => new NotFound('the object does not exist', { cause }),
  NotFound: (cause) => new NotFound('the object does not exist', { cause }),
  NoSuchUpload: (cause) => new UploadNotFound('the multipart upload does not exist', { cause }),
  NoSuchBucket: (cause) => new Unavailable('the bucket does not exist', { cause }),
  PreconditionFailed: (cause) => new PreconditionFailed('the object was changed meanwhile', { cause }),
  ConditionalRequestConflict: busy,
  OperationAborted: busy,
  KeyTooLongError: (cause) => new InvalidPath('the path is too long for this volume', { cause }),
  KeyTooLong: (cause) => new InvalidPath('the path is too long for this volume', { cause }),
  // MinIO
  XMinioInvalidObjectName: (cause) => new InvalidPath('the volume does not take this path', { cause }),
  EntityTooLarge: (cause) => new NoSpace('the file is larger than this volume can hold', { cause }),
  // MinIO
  XMinioStorageFull: (cause) => new NoSpace('the storage is full', { cause }),
  // Ceph
  QuotaExceeded: quota,
  // MinIO
  XMinioAdminBucketQuotaExceeded: quota,
  InvalidObjectState: (cause) =>
    new InvalidOperation('the object is in an archive of the storage, and has to be restored first', { cause }),
  InvalidRange: (cause) => new SourceChanged('the object became shorter while it was read', { cause }),
  AccountProblem: (cause) => new AccessDenied('the storage refuses the account', { cause }),
  RequestTimeTooSkewed: (cause) =>
    new AccessDenied('the storage refuses the clock of this machine, which differs from its own', { cause }),
  ExpiredToken: denied,
  InvalidToken: denied,
  // The SDK's own.
  CredentialsProviderError: (cause) =>
    new Unavailable(`there are no credentials for the storage: ${cause.message}`, { cause }),
}

function busy(cause: Error): BackendError {
  return new Busy('the storage has another change of the same file under way', { cause })
}

function quota(cause: Error): BackendError {
  return new QuotaExceeded('a limit of the storage is reached', { cause })
}

function denied(cause: Error): BackendError {
  return new AccessDenied(`the storage denies access${isNamed(cause) ? ` with ${cause.name}` : ''}`, { cause })
}

/** An answer to a HEAD has no body that could name the error. */
function isNamed({ name }: Error): boolean {
  return !name.startsWith('Unknown')
}

/** Turns an error of the SDK into a backend's error, or into one that may be logged. */
export function translate(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof BackendError) return error
  const known = translations[error.name]
  if (known !== undefined) return known(error)
  if (error instanceof S3ServiceException) {
    const status = error.$metadata.httpStatusCode ?? 0
    if (status === 404) return new NotFound('the object does not exist', { cause: error })
    if (status === 412) return new PreconditionFailed('the object was changed meanwhile', { cause: error })
    if (status === 401 || status === 403) return denied(error)
    const answer = isNamed(error) ? `${status} ${error.name}` : `${status}`
    // What is not implemented does not come back, and is no reason to leave the storage alone.
    if ((status >= 500 && status !== 501) || status === 429 || error.name === 'RequestTimeout') {
      return new Unavailable(`the storage answers ${answer}`, { cause: error })
    }
    return new CommandRefused(`the storage refuses a command with ${answer}: ${error.message}`, { cause: error })
  }
  return new Unavailable(`the storage does not answer: ${reasonOf(error)}`, { cause: error })
}

/** Of a connection: the system's code, since the message may name addresses that are nobody's business. */
function reasonOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}

/** How often a request that failed was sent; more than once means that an earlier one may have had its effect. */
export function attemptsOf(error: unknown): number {
  const cause = error instanceof BackendError ? error.cause : error
  return cause instanceof S3ServiceException ? (cause.$metadata.attempts ?? 1) : 1
}
