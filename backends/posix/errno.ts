import {
  AccessDenied,
  AlreadyExists,
  BackendError,
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
  ELOOP: (path, cause) => new InvalidOperation(`${path} leads through too many symlinks`, { cause }),
  ENAMETOOLONG: (path, cause) => new InvalidPath(`${path} is too long for this volume`, { cause }),
  ENOSPC: (path, cause) => new NoSpace(`the volume has no room left for ${path}`, { cause }),
  EDQUOT: (path, cause) => new QuotaExceeded(`a limit of the storage leaves no room for ${path}`, { cause }),
  EFBIG: (path, cause) => new NoSpace(`${path} is larger than this volume can hold`, { cause }),
  EACCES: (path, cause) => new AccessDenied(`the storage denies access to ${path}`, { cause }),
  EPERM: (path, cause) => new AccessDenied(`the storage does not permit this for ${path}`, { cause }),
  EROFS: (path, cause) => new AccessDenied(`the volume is mounted read-only, so not ${path}`, { cause }),
}

const passing = new Set(['EIO', 'ESTALE', 'ETIMEDOUT', 'EHOSTDOWN', 'ENOTCONN', 'ENODEV', 'EMFILE', 'ENFILE', 'EBUSY'])

export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
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

/** Turns a system error into a backend's error that names `path`; anything else is passed on as it is. */
export function translate(error: unknown, path: string): unknown {
  const errno = errnoOf(error)
  if (!(error instanceof Error) || error instanceof BackendError || errno === undefined) return error
  if (passing.has(errno)) return new Unavailable(`the storage failed with ${errno}`, { cause: error })
  return translations[errno]?.(path, error) ?? error
}

/** Runs `operation`, which concerns the entry `path`, with its system errors translated. */
export async function translateErrors<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation()
  } catch (error) {
    throw translate(error, path)
  }
}
