import { S3ServiceException } from '@aws-sdk/client-s3'
import {
  AccessDenied,
  BackendError,
  InvalidPath,
  NoSpace,
  NotFound,
  PreconditionFailed,
  QuotaExceeded,
  Unavailable,
  UploadNotFound,
} from '../errors.ts'

type Translation = (cause: Error) => BackendError

// Names of Amazon S3's API reference, "Error responses"; QuotaExceeded is Ceph's.
const translations: Record<string, Translation> = {
  NoSuchKey: (cause) => new NotFound('the object does not exist', { cause }),
  NotFound: (cause) => new NotFound('the object does not exist', { cause }),
  NoSuchUpload: (cause) => new UploadNotFound('the multipart upload does not exist', { cause }),
  NoSuchBucket: (cause) => new Unavailable('the bucket does not exist', { cause }),
  PreconditionFailed: (cause) => new PreconditionFailed('the object was changed meanwhile', { cause }),
  ConditionalRequestConflict: (cause) => new PreconditionFailed('the object is being changed', { cause }),
  KeyTooLongError: (cause) => new InvalidPath('the path is too long for this volume', { cause }),
  EntityTooLarge: (cause) => new NoSpace('the file is larger than this volume can hold', { cause }),
  QuotaExceeded: (cause) => new QuotaExceeded('a limit of the storage is reached', { cause }),
  AccountProblem: (cause) => new AccessDenied('the storage refuses the account', { cause }),
}

/** Turns an error of the SDK into a backend's error; what is no failure of the storage is passed on as it is. */
export function translate(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof BackendError) return error
  const known = translations[error.name]
  if (known !== undefined) return known(error)
  if (error instanceof S3ServiceException) {
    const status = error.$metadata.httpStatusCode ?? 0
    if (status === 404) return new NotFound('the object does not exist', { cause: error })
    if (status === 412) return new PreconditionFailed('the object was changed meanwhile', { cause: error })
    if (status === 401 || status === 403) {
      return new AccessDenied(`the storage denies access with ${error.name}`, { cause: error })
    }
    if (status === 501) return error
    if (status >= 500 || status === 429 || error.name === 'RequestTimeout') {
      return new Unavailable(`the storage answers ${status} ${error.name}`, { cause: error })
    }
    return error
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
