import type { Operation } from './call.ts'
import type { Layer } from './layer.ts'

/** What finds out about the volume, or ends. */
const passing = new Set<Operation>(['close', 'readIdentity', 'writeIdentity', 'listFolders'])

/**
 * Lets calls through to the volume that the service knows, and to no other that is in its place. `admit` rejects with why
 * not; it gives nothing to wait for while it is sure. `health` is when it looks again.
 */
export function guard(admit: (look: 'again' | 'if in doubt') => Promise<void> | undefined): Layer {
  return (call, next, step) => {
    if (step !== 'answer' || passing.has(call.operation)) return next()
    const admitted = admit(call.operation === 'health' ? 'again' : 'if in doubt')
    return admitted === undefined ? next() : admitted.then(next)
  }
}
