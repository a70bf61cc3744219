import type { Backend } from '../backends/backend.ts'
import type { Open } from '../backends/conformance/subject.ts'

/** Opens these in turn. They stay open: to start the threads of each anew is most of the time of a case. */
export function reopening(backends: [Backend, ...Backend[]]): Open {
  let opened = 0
  return async () => {
    const backend = backends[opened++ % backends.length] ?? backends[0]
    return { ...backend, close: async () => {} }
  }
}
