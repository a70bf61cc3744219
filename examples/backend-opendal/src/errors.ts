import { AccessDenied, BackendError, NoSpace, NotADirectory, NotFound, Unavailable } from 'storage-proxy/backend'

/** The kind of an error of OpenDAL, which its message begins with; undefined for an error of somebody else. */
export function kindOf(error: unknown): string | undefined {
  return error instanceof Error ? /^(\w+) \((?:permanent|temporary|persistent)\)/.exec(error.message)?.[1] : undefined
}

/** Turns an error of OpenDAL into a backend's error that names `path`; anything else is passed on as it is. */
export function translate(error: unknown, path: string): unknown {
  const kind = kindOf(error)
  if (!(error instanceof Error) || error instanceof BackendError || kind === undefined) return error
  // Of the system's errors OpenDAL has only some as kinds of its own: ENOTDIR is 20, ENOSPC 28.
  if (/\(os error 20\)/.test(error.message)) return new NotADirectory(`${path} leads through a file`, { cause: error })
  if (/\(os error 28\)/.test(error.message)) return new NoSpace(`no room is left for ${path}`, { cause: error })
  if (kind === 'NotFound') return new NotFound(`${path} does not exist`, { cause: error })
  if (kind === 'NotADirectory') return new NotADirectory(`${path} leads through a file`, { cause: error })
  if (kind === 'PermissionDenied') return new AccessDenied(`the storage denies access to ${path}`, { cause: error })
  return new Unavailable(`the storage failed with ${kind} at ${path}`, { cause: error })
}

/** Runs `operation`, which concerns the entry `path`, with its errors translated. */
export async function translated<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation()
  } catch (error) {
    throw translate(error, path)
  }
}

/** Gives undefined for what is not there. */
export async function ifPresent<T>(operation: Promise<T>): Promise<T | undefined> {
  return operation.catch((error) => {
    if (kindOf(error) === 'NotFound' || /\(os error 20\)/.test(String(error))) return undefined
    throw error
  })
}
