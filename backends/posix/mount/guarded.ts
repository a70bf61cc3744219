import type { Backend, OpenFile } from '../../backend.ts'
import { Unavailable, VolumeUnavailable } from '../../errors.ts'
import type { BackendCall, Operation } from '../../layers/call.ts'
import { around, type Layer } from '../../layers/layer.ts'
import type { Mount } from './index.ts'
import type { MountedRoot } from './root.ts'
import { isStale, reopening } from './stale.ts'

/** What needs nothing of the mount. */
const passing = new Set<string | symbol>(['limits', 'close', 'mount', 'trash', 'folderOf'] satisfies (keyof Backend)[])

/**
 * A backend whose calls go to the one on the root that is mounted at the time.
 * @param shape has its members; what it says of itself holds on any mount
 */
export function guarded(shape: Backend, mount: Mount): Backend {
  return around(throughMount(shape, mount), [watched(mount)])
}

/** Lets calls through to what is mounted where it belongs, and gives up those that wait for a mount that hangs. */
function watched(mount: Mount): Layer {
  const roots = new WeakMap<BackendCall, MountedRoot>()
  return {
    covers: (operation: Operation) => !passing.has(operation),
    enter(call, step) {
      const checking = step === 'answer' ? mount.ready() : undefined
      return checking && within(call.signal, checking)
    },
    limit(call, answer) {
      const root = roots.get(call) ?? mount.root?.mounted
      if (root === undefined) return answer
      roots.set(call, root)
      return root.limit(call, answer)
    },
  }
}

/** Waits for a look at what is mounted, but no longer than whoever calls gives it. */
async function within(signal: AbortSignal, checking: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => {
    const isLate = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
    reject(isLate ? new Unavailable('the mount of the volume does not answer in time') : signal.reason)
  }
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort)
  try {
    await Promise.race([checking, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

function throughMount(shape: Backend, mount: Mount): Backend {
  return new Proxy(shape, {
    get(_, member) {
      const own: unknown = Reflect.get(shape, member)
      if (passing.has(member) || typeof own !== 'function') return own
      if (member === 'list' || member === 'listMany' || member === 'listFolders') {
        return (...args: unknown[]) => iterate(mount, member, args)
      }
      if (member === 'read' || member === 'readUpload') {
        return async (...args: unknown[]) => {
          const open = () => withFreshHandles(mount, () => openFile(mount, member, args))
          return reopening(await open(), open)
        }
      }
      const call = (args: unknown[]) => use(mount, async (backend) => invoke(backend, member, args))
      // What has taken bytes cannot begin again.
      if (member === 'write' || member === 'appendUpload') return (...args: unknown[]) => call(args)
      return (...args: unknown[]) => withFreshHandles(mount, () => call(args))
    },
  })
}

function invoke(backend: Backend, member: string | symbol, args: unknown[]) {
  const called: unknown = Reflect.get(backend, member)
  if (typeof called !== 'function') throw new Error(`the backend on the mount has no ${String(member)}`)
  return Reflect.apply(called, backend, args)
}

/** Does something, and once more where the server does not know a handle any more; also that of the root is then anew. */
async function withFreshHandles<T>(mount: Mount, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!isStale(error)) throw error
  }
  await mount.renew()
  return work()
}

/** The root is not closed before what uses it has ended, also when nobody waits for that any more. */
async function use<T>(mount: Mount, work: (backend: Backend) => Promise<T>): Promise<T> {
  const { mounted, backend } = rootOf(mount)
  mounted.users++
  try {
    return await work(backend)
  } finally {
    mounted.users--
  }
}

async function* iterate(mount: Mount, member: string, args: unknown[]): AsyncGenerator<unknown> {
  let hasBegun = false
  try {
    for await (const item of iterateOnce(mount, member, args)) {
      hasBegun = true
      yield item
    }
    return
  } catch (error) {
    if (hasBegun || !isStale(error)) throw error
  }
  await mount.renew()
  yield* iterateOnce(mount, member, args)
}

async function* iterateOnce(mount: Mount, member: string, args: unknown[]): AsyncGenerator<unknown> {
  const { mounted, backend } = rootOf(mount)
  mounted.users++
  try {
    yield* invoke(backend, member, args)
  } finally {
    mounted.users--
  }
}

async function openFile(mount: Mount, member: string, args: unknown[]): Promise<OpenFile> {
  const { mounted, backend } = rootOf(mount)
  mounted.users++
  let isUsed = true
  const release = () => {
    if (isUsed) mounted.users--
    isUsed = false
  }
  try {
    const file: OpenFile = await invoke(backend, member, args)
    const close = () => {
      file.close()
      release()
    }
    return { ...file, close }
  } catch (error) {
    release()
    throw error
  }
}

function rootOf(mount: Mount): NonNullable<Mount['root']> {
  const { root } = mount
  if (root === undefined) throw new VolumeUnavailable('what is mounted where the volume belongs has just changed')
  return root
}
