import { constants } from 'node:os'
import {
  AccessDenied,
  AlreadyExists,
  BackendError,
  Busy,
  EntryAccessDenied,
  InvalidOperation,
  InvalidPath,
  IsADirectory,
  NoSpace,
  NotADirectory,
  NotAFile,
  NotEmpty,
  NotFound,
  QuotaExceeded,
  Unavailable,
  VolumeUnavailable,
} from '../errors.ts'

type Translation = (path: string, cause: Error) => BackendError

// The meanings are those of the ERRORS sections of open(2), rename(2), link(2), mkdir(2), rmdir(2) and write(2).
const translations: Record<string, Translation> = {
  ENOENT: (path, cause) => new NotFound(`${path} does not exist`, { cause }),
  EEXIST: (path, cause) => new AlreadyExists(`${path} exists already`, { cause }),
  EISDIR: (path, cause) => new IsADirectory(`${path} is a directory`, { cause }),
  ENOTDIR: (path, cause) => new NotADirectory(`${path} leads through an entry that is not a directory`, { cause }),
  ENOTEMPTY: (path, cause) => new NotEmpty(`${path} is a directory that is not empty`, { cause }),
  ENXIO: (path, cause) => new NotAFile(`${path} is not a file`, { cause }),
  EINVAL: (path, cause) => new InvalidOperation(`the storage refuses this for ${path}`, { cause }),
  ENOTSUP: (path, cause) => new InvalidOperation(`the storage cannot do this for ${path}`, { cause }),
  ENOSYS: (path, cause) => new InvalidOperation(`the storage cannot do this for ${path}`, { cause }),
  ENOTTY: (path, cause) => new InvalidOperation(`the storage cannot do this for ${path}`, { cause }),
  EXDEV: (path, cause) => new InvalidOperation(`${path} is on another filesystem than its vfolder`, { cause }),
  ELOOP: (path, cause) => new InvalidOperation(`${path} leads through too many symlinks`, { cause }),
  ENAMETOOLONG: (path, cause) => new InvalidPath(`${path} is too long for this volume`, { cause }),
  EILSEQ: (path, cause) => new InvalidPath(`${path} has characters that this volume does not take`, { cause }),
  ENOSPC: (path, cause) => new NoSpace(`the volume has no room left for ${path}`, { cause }),
  EMLINK: (path, cause) => new NoSpace(`the volume takes no more links or directories where ${path} is`, { cause }),
  EDQUOT: (path, cause) => new QuotaExceeded(`a limit of the storage leaves no room for ${path}`, { cause }),
  EFBIG: (path, cause) => new NoSpace(`${path} is larger than this volume can hold`, { cause }),
  EOVERFLOW: (path, cause) => new NoSpace(`${path} is larger than this volume can hold`, { cause }),
  EACCES: (path, cause) => new EntryAccessDenied(`the storage denies access to ${path}`, { cause }),
  EPERM: (path, cause) => new EntryAccessDenied(`the storage does not permit this for ${path}`, { cause }),
  EROFS: (path, cause) => new AccessDenied(`the volume is mounted read-only, so not ${path}`, { cause }),
  EBUSY: (path, cause) => new Busy(`${path} is a mount point, or in use by the system`, { cause }),
  ETXTBSY: (path, cause) => new Busy(`${path} is a program that runs, or in use by the system`, { cause }),
}

/** The same errors mean something else where they are not about an entry of a user, but a place of the volume. */
const translationsOfPlaces: Record<string, Translation> = {
  ENOENT: (_, cause) => unmounted(cause),
  ENOTDIR: (_, cause) => unmounted(cause),
  EACCES: (place, cause) => new AccessDenied(`the storage denies access to ${place}`, { cause }),
  EPERM: (place, cause) => new AccessDenied(`the storage does not permit this for ${place}`, { cause }),
}

/** The directories that every volume has are not there. */
export function unmounted(cause: Error): VolumeUnavailable {
  return new VolumeUnavailable('the directories of the volume are gone; it may not be mounted', { cause })
}

/** What only a mistake of the service leads to. */
const mistakes = ['EBADF', 'EFAULT']

/** Whether an error is one of the system's; Node's own have names with an underscore. */
function isErrno(name: string): boolean {
  return (/^E[A-Z0-9]+$/.test(name) || name.startsWith('Unknown system error')) && !mistakes.includes(name)
}

/** libuv has no names for some errors, such as ESTALE and EDQUOT, only numbers. */
function nameOf(code: string): string {
  const number = /^Unknown system error -(\d+)$/.exec(code)?.[1]
  if (number === undefined) return code
  return Object.entries(constants.errno).find(([, value]) => value === Number(number))?.[0] ?? code
}

export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? nameOf(error.code) : undefined
}

/** The entry is no longer there, or no longer what it was. */
export const gone = ['ENOENT', 'ENOTDIR', 'ELOOP']

/** Whether an error says that the entry is no longer there, or no longer what it was. */
export function isGone(error: unknown): boolean {
  return gone.includes(errnoOf(error) ?? '')
}

/** Runs `operation`, and gives undefined for an error in `errnos`. */
export function ignoreErrors<T>(errnos: string[], operation: () => T): T | undefined {
  try {
    return operation()
  } catch (error) {
    if (errnos.includes(errnoOf(error) ?? '')) return undefined
    throw error
  }
}

/**
 * Turns a system error into a backend's error that names `path`; anything else is passed on as it is. What is not in
 * the table is the storage's failure, which may pass: EIO, ESTALE, ETIMEDOUT, EMFILE and the like.
 */
export function translate(error: unknown, path: string, own: Record<string, Translation> = {}): unknown {
  const errno = errnoOf(error)
  if (!(error instanceof Error) || error instanceof BackendError || errno === undefined || !isErrno(errno)) return error
  const translation = own[errno] ?? translations[errno]
  return translation?.(path, error) ?? new Unavailable(`the storage failed with ${errno}`, { cause: error })
}

/** Runs `operation`, which concerns the entry `path`, with its system errors translated. */
export async function translateErrors<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation()
  } catch (error) {
    throw translate(error, path)
  }
}

/** The same for a place of the volume that is no entry of a vfolder, such as the one for staged files. */
export async function translateErrorsOf<T>(place: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation()
  } catch (error) {
    throw translate(error, place, translationsOfPlaces)
  }
}
