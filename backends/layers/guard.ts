import { VolumeUnavailable } from '../errors.ts'
import type { Operation } from './call.ts'
import type { Layer } from './layer.ts'

/** What finds out about the volume, or ends. */
const passing = new Set<Operation>(['close', 'readIdentity', 'writeIdentity', 'listFolders'])

interface Admission {
  /** The volume was the known one when it was looked at last. */
  readonly isAdmitted: boolean
  /** Rejects with why it is not. */
  look(): Promise<void>
}

/**
 * Lets calls through to the volume that the service knows, and to no other that is in its place. `health` looks again at
 * one that was admitted; before that, any call does.
 */
export function guard(admission: () => Admission): Layer {
  return (call, next, step) => {
    if (step !== 'answer' || passing.has(call.operation)) return next()
    const volume = admission()
    if (call.operation !== 'health') return volume.isAdmitted ? next() : volume.look().then(next)
    // What keeps the storage from being looked at, it tells better itself.
    const known = volume.isAdmitted ? Promise.resolve() : volume.look().catch(throwRefusal)
    return known.then(next).then((result) => volume.look().then(() => result))
  }
}

function throwRefusal(error: unknown): void {
  if (error instanceof VolumeUnavailable) throw error
}
