import { type BackendCall, type CallFollower, entriesIn, failureOf, isList } from './call.ts'
import type { Layer } from './layer.ts'

/** Has calls followed, such as by a trace: a list until nobody takes more of it, any other until its answer. */
export function follow(begin: (call: BackendCall) => CallFollower | undefined): Layer {
  return {
    covers: (operation, step) => step === 'answer' || isList(operation),
    enter(call, step) {
      if (step === 'answer') call.follower = begin(call)
      return undefined
    },
    run: (call, work) => call.follower?.run(work) ?? work(),
    leave(call, _step, outcome) {
      const { follower } = call
      if (follower === undefined || (isList(call.operation) && entriesIn(outcome) !== undefined)) return
      call.follower = undefined
      follower.end(outcome.status === 'rejected' ? failureOf(call, outcome.reason) : undefined)
    },
  }
}
