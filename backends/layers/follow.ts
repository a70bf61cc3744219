import { type BackendCall, entriesIn, failureOf, isList } from './call.ts'
import type { Layer } from './layer.ts'

/** Who follows a call from its begin to its end. */
interface Follower {
  /** Asks the backend as the one that is followed. */
  run<T>(work: () => T): T
  /** @param failure how it failed, by `failureOf` */
  end(failure?: string): void
}

/** Has calls followed, such as by a trace: a list until nobody takes more of it, any other until its answer. */
export function follow(begin: (call: BackendCall) => Follower | undefined): Layer {
  const followers = new WeakMap<BackendCall, Follower>()

  return {
    covers: (operation, step) => step === 'answer' || isList(operation),
    enter(call, step) {
      const follower = step === 'answer' ? begin(call) : undefined
      if (follower !== undefined) followers.set(call, follower)
      return undefined
    },
    run: (call, work) => followers.get(call)?.run(work) ?? work(),
    leave(call, _step, outcome) {
      const follower = followers.get(call)
      if (follower === undefined || (isList(call.operation) && entriesIn(outcome) !== undefined)) return
      followers.delete(call)
      follower.end(outcome.status === 'rejected' ? failureOf(call, outcome.reason) : undefined)
    },
  }
}
