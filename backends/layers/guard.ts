import type { Operation } from './call.ts'
import type { Layer } from './layer.ts'

/** What finds out about the volume, or ends. */
const passing = new Set<Operation>(['close', 'health', 'readIdentity', 'writeIdentity', 'listFolders'])

interface Admission {
  /** The volume was the known one when it was looked at last. */
  readonly isAdmitted: boolean
  /** Rejects with why it is not. */
  look(): Promise<void>
}

/** Lets calls through to the volume that the service knows, and to no other that is in its place. */
export function guard(admission: () => Admission): Layer {
  return {
    covers: (operation, step) => step === 'answer' && !passing.has(operation),
    enter() {
      const volume = admission()
      return volume.isAdmitted ? undefined : volume.look()
    },
  }
}
