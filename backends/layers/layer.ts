import type { Backend, Call, OpenFile, WholeFiles } from '../backend.ts'
import { BackendCall, type Names, type Operation, Source } from './call.ts'

/**
 * A step of a call: its `answer`, which for a list is the first entry; `more`, which is a further entry or a chunk of
 * an opened file; or the `end`, when the caller takes no more.
 */
export type Step = 'answer' | 'more' | 'end'

/**
 * Stands around the steps of calls. For each step the layers that cover it are entered, the outermost first; then the
 * backend is asked; and when the outcome is known they are left, the innermost first.
 */
export interface Layer {
  /** Whether it has to do with such a step of such calls. Asked once: the answer holds for all calls of the backend. */
  covers(operation: Operation, step: Step): boolean
  /**
   * Refuses the step by an error, or gives a promise to wait for. One that gives nothing costs next to nothing, which
   * counts where small files are read (bench row `download-4k`).
   */
  enter?(call: BackendCall, step: Step): Promise<unknown> | undefined
  /** What is to be waited for instead of the answer of the backend: for a layer that may give it up. */
  limit?<T>(call: BackendCall, answer: Promise<T>): Promise<T>
  /** Asks the backend, so that all that it does for this step is done inside of something, such as a trace. */
  run?<T>(call: BackendCall, work: () => Promise<T>): Promise<T>
  /** Follows each `enter` that did not refuse, even if a layer further in did. Never throws. */
  leave?(call: BackendCall, step: Step, outcome: PromiseSettledResult<unknown>): void
}

/** The layers that cover each step of one operation, the outermost first. */
type Stack = Record<Step, Layer[]>

/**
 * Puts layers around a backend, the outermost first. A capability that is absent stays absent. Only this file knows the
 * members of a backend; a layer knows calls and their steps.
 */
export function around(backend: Backend, layers: Layer[]): Backend {
  const stackOf = composeLayers(layers)
  const { listMany, readMany, copy, copyTree, clone, count, usage, quota, symlink, capacity, presign } = backend
  const { presignUpload, mount, trash, readIdentity, writeIdentity, listFolders, folderOf } = backend

  const answer = <T>(call: BackendCall, run: () => Promise<T>) => ask(stackOf(call.operation), call, 'answer', run)
  const pass = <O extends Call, T>(
    operation: Operation,
    names: Names,
    options: O,
    run: (options: O) => Promise<T>,
  ): Promise<T> => {
    const call = new BackendCall(operation, names, options.signal)
    return answer(call, () => run(passOn(options, call)))
  }
  const store = <O extends Call, T>(
    operation: Operation,
    names: Names,
    chunks: AsyncIterable<Buffer>,
    options: O,
    run: (source: Source, options: O) => Promise<T>,
  ): Promise<T> => {
    const call = new BackendCall(operation, names, options.signal)
    const source = new Source(call, chunks)
    call.source = source
    return answer(call, () => run(source, passOn(options, call)))
  }
  const open = (operation: Operation, names: Names, options: Call, run: (options: Call) => Promise<OpenFile>) => {
    const call = new BackendCall(operation, names, options.signal)
    return answer(call, () => run(passOn(options, call)).then((file) => watchFile(stackOf(operation), call, file)))
  }

  return {
    limits: backend.limits,
    createFolder: (folder, call) =>
      pass('createFolder', { folder }, call, (call) => backend.createFolder(folder, call)),
    removeFolder: (folder, options) =>
      pass('removeFolder', { folder }, options, (options) => backend.removeFolder(folder, options)),
    stat: (folder, path, call) => pass('stat', { folder, path }, call, (call) => backend.stat(folder, path, call)),
    list(folder, options) {
      const call = new BackendCall('list', { folder, path: options.path }, options.signal)
      return new Iteration(stackOf('list'), call, backend.list(folder, passOn(options, call)), 'answer')
    },
    read: (folder, path, call) => open('read', { folder, path }, call, (call) => backend.read(folder, path, call)),
    write: (folder, path, source, options) =>
      store('write', { folder, path }, source, options, (source, options) =>
        backend.write(folder, path, source, options),
      ),
    beginUpload: (folder, upload, call) =>
      pass('beginUpload', { folder, upload }, call, (call) => backend.beginUpload(folder, upload, call)),
    appendUpload: (folder, upload, source, options) =>
      store('appendUpload', { folder, upload }, source, options, (source, options) =>
        backend.appendUpload(folder, upload, source, options),
      ),
    readUpload: (folder, upload, call) =>
      open('readUpload', { folder, upload }, call, (call) => backend.readUpload(folder, upload, call)),
    completeUpload: (folder, upload, path, options) =>
      pass('completeUpload', { folder, upload, path }, options, (options) =>
        backend.completeUpload(folder, upload, path, options),
      ),
    abortUpload: (folder, upload, call) =>
      pass('abortUpload', { folder, upload }, call, (call) => backend.abortUpload(folder, upload, call)),
    mkdir: (folder, path, call) => pass('mkdir', { folder, path }, call, (call) => backend.mkdir(folder, path, call)),
    move: (folder, path, target, options) =>
      pass('move', { folder, path, target, toFolder: options.toFolder }, options, (options) =>
        backend.move(folder, path, target, options),
      ),
    remove: (folder, path, options) =>
      pass('remove', { folder, path }, options, (options) => backend.remove(folder, path, options)),
    collectGarbage: (options) => pass('collectGarbage', {}, options, (options) => backend.collectGarbage(options)),
    health: (call) => pass('health', {}, call, (call) => backend.health(call)),
    close: () => answer(new BackendCall('close', {}), () => backend.close()),
    ...(listMany && {
      listMany(folder, options) {
        const call = new BackendCall('listMany', { folder, path: options.path }, options.signal)
        return new Iteration(stackOf('listMany'), call, listMany.call(backend, folder, passOn(options, call)), 'answer')
      },
    }),
    ...(readMany && {
      readMany(folder, entries, options) {
        const call = new BackendCall('readMany', { folder }, options.signal)
        const read = () => readMany.call(backend, folder, entries, passOn(options, call))
        return answer(call, () => read().then((files) => closeIfAbandoned(call, files)))
      },
    }),
    ...(copy && {
      copy: (folder, path, target, options) =>
        pass('copy', { folder, path, target, toFolder: options.toFolder }, options, (options) =>
          copy.call(backend, folder, path, target, options),
        ),
    }),
    ...(copyTree && {
      copyTree: (folder, path, target, options) =>
        pass('copyTree', { folder, path, target, toFolder: options.toFolder }, options, (options) =>
          copyTree.call(backend, folder, path, target, options),
        ),
    }),
    ...(clone && {
      clone: (folder, toFolder, options) =>
        pass('clone', { folder, toFolder }, options, (options) => clone.call(backend, folder, toFolder, options)),
    }),
    ...(count && {
      count: (folder, call) => pass('count', { folder }, call, (call) => count.call(backend, folder, call)),
    }),
    ...(usage && {
      usage: (folder, call) => pass('usage', { folder }, call, (call) => usage.call(backend, folder, call)),
    }),
    ...(quota && {
      quota: (folder, limits, call) =>
        pass('quota', { folder }, call, (call) => quota.call(backend, folder, limits, call)),
    }),
    ...(symlink && {
      symlink: (folder, path, target, options) =>
        pass('symlink', { folder, path, target }, options, (options) =>
          symlink.call(backend, folder, path, target, options),
        ),
    }),
    ...(capacity && {
      capacity: (call) => pass('capacity', {}, call, (call) => capacity.call(backend, call)),
    }),
    ...(presign && {
      presign: (folder, path, options) =>
        pass('presign', { folder, path }, options, (options) => presign.call(backend, folder, path, options)),
    }),
    ...(presignUpload && {
      presignUpload: (folder, upload, options) =>
        pass('presignUpload', { folder, upload }, options, (options) =>
          presignUpload.call(backend, folder, upload, options),
        ),
    }),
    ...(mount && {
      mount: (folder, path) =>
        answer(new BackendCall('mount', { folder, path }), () => mount.call(backend, folder, path)),
    }),
    // Names, for which nothing is asked.
    ...(trash && { trash: (folder) => trash.call(backend, folder) }),
    ...(folderOf && { folderOf: (id, quotaScope) => folderOf.call(backend, id, quotaScope) }),
    ...(readIdentity && {
      readIdentity: (call) => pass('readIdentity', {}, call, (call) => readIdentity.call(backend, call)),
    }),
    ...(writeIdentity && {
      writeIdentity: (text, call) => pass('writeIdentity', {}, call, (call) => writeIdentity.call(backend, text, call)),
    }),
    ...(listFolders && {
      listFolders(options) {
        const call = new BackendCall('listFolders', {}, options.signal)
        return new Iteration(stackOf('listFolders'), call, listFolders.call(backend, passOn(options, call)), 'answer')
      },
    }),
  } satisfies Backend
}

function composeLayers(layers: Layer[]): (operation: Operation) => Stack {
  const stacks = new Map<Operation, Stack>()
  return (operation) => {
    const known = stacks.get(operation)
    if (known !== undefined) return known
    const covering = (step: Step) => layers.filter((layer) => layer.covers(operation, step))
    const stack = { answer: covering('answer'), more: covering('more'), end: covering('end') }
    stacks.set(operation, stack)
    return stack
  }
}

/** Goes with one step of a call through its layers. */
async function ask<T>(stack: Stack, call: BackendCall, step: Step, run: () => Promise<T>): Promise<T> {
  const layers = stack[step]
  let entered = 0
  let outcome: PromiseSettledResult<T>
  try {
    for (const layer of layers) {
      const wait = layer.enter?.(call, step)
      if (wait !== undefined) await wait
      entered++
    }
    const work = layers.reduceRight<() => Promise<T>>((work, layer) => inside(layer, call, work), run)
    const answer = Promise.resolve(work())
    const limited = layers.reduceRight((awaited, layer) => layer.limit?.(call, awaited) ?? awaited, answer)
    outcome = { status: 'fulfilled', value: await limited }
  } catch (reason) {
    outcome = { status: 'rejected', reason }
  }
  while (entered > 0) layers[--entered]?.leave?.(call, step, outcome)
  if (outcome.status === 'rejected') throw outcome.reason
  return outcome.value
}

function inside<T>({ run }: Layer, call: BackendCall, work: () => Promise<T>): () => Promise<T> {
  return run === undefined ? work : () => run(call, work)
}

/** The options of a call, with its own signal. */
function passOn<O extends Call>(options: O, call: BackendCall): O {
  return new Proxy<O>(options, call)
}

/** Closes what comes when nobody waits for it any more. */
function closeIfAbandoned<T extends Pick<WholeFiles, 'close'>>(call: BackendCall, opened: T): T {
  if (call.abandoned === undefined) return opened
  opened.close()
  throw call.abandoned.reason
}

/** An iteration, each step of which goes through the layers. */
class Iteration<T> implements AsyncIterable<T>, AsyncIterator<T> {
  readonly #stack: Stack
  readonly #call: BackendCall
  readonly #items: AsyncIterable<T>
  #step: Step
  #iterator: AsyncIterator<T> | undefined

  constructor(stack: Stack, call: BackendCall, items: AsyncIterable<T>, first: Step) {
    this.#stack = stack
    this.#call = call
    this.#items = items
    this.#step = first
    call.hold(this)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<T>> {
    const step = this.#step
    this.#step = 'more'
    return ask(this.#stack, this.#call, step, this.#ask)
  }

  return(): Promise<IteratorResult<T>> {
    return ask(this.#stack, this.#call, 'end', () => this.#end())
  }

  /** A generator ends only once the item that it was asked for last has come. */
  release(): Promise<unknown> | undefined {
    return this.#iterator?.return?.()
  }

  readonly #ask = (): Promise<IteratorResult<T>> => {
    this.#iterator ??= this.#items[Symbol.asyncIterator]()
    return this.#iterator.next()
  }

  async #end(): Promise<IteratorResult<T>> {
    await this.#iterator?.return?.()
    return { done: true, value: undefined }
  }
}

/** A file that was opened: its chunks are further steps of the call that opened it. */
function watchFile(stack: Stack, call: BackendCall, opened: OpenFile): OpenFile {
  const file = closeIfAbandoned(call, opened)
  const { entry, content, location } = file
  return {
    entry,
    ...(content && { content }),
    chunks: (range) => new Iteration(stack, call, file.chunks(range), 'more'),
    ...(location && { location: () => location.call(file) }),
    close() {
      // Not while the backend may still read from it: the descriptor could be another file's by then.
      if (call.abandoned === undefined) file.close()
      else call.abandoned.released.then(() => file.close()).catch(() => {})
    },
  }
}
