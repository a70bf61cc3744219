import { SourceChanged } from '../errors.ts'
import { translate } from './errno.ts'

/** An error on its way out of a thread, where its class would be lost. */
export interface Failure {
  message: string
  /** Inside the vfolder. */
  path: string
  errno: string | undefined
  sourceChanged: boolean
}

export function toError({ message, path, errno, sourceChanged }: Failure): unknown {
  if (sourceChanged) return new SourceChanged(message)
  const error = new Error(message)
  return errno === undefined ? error : translate(Object.assign(error, { code: errno }), path || 'the vfolder')
}
