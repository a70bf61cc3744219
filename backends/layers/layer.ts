import type { Backend, Call, OpenFile, WholeFiles } from '../backend.ts'
import { BackendCall, type Names, type Operation, Source } from './call.ts'

/**
 * A step of a call: its `answer`, which for a list is the first entry; `more`, which is a further entry or a chunk of
 * an opened file; or the `end`, when the caller takes no more.
 */
export type Step = 'answer' | 'more' | 'end'

/** Stands around every step of every call: `next` asks the backend, or the next layer. */
export type Layer = <T>(call: BackendCall, next: () => Promise<T>, step: Step) => Promise<T>

/**
 * Puts layers around a backend, the outermost first. A capability that is absent stays absent. Only this file knows the
 * members of a backend; a layer knows calls and their steps.
 */
export function around(backend: Backend, layers: Layer[]): Backend {
  const layer = composeLayers(layers)
  const { readMany, copy, copyTree, clone, usage, symlink, capacity, presign, presignUpload, mount } = backend
  const { readIdentity, writeIdentity, listFolders } = backend

  const ask = <T>(call: BackendCall, run: () => Promise<T>) => layer(call, () => attempt(run), 'answer')
  const pass = <O extends Call, T>(
    operation: Operation,
    names: Names,
    options: O,
    run: (options: O) => Promise<T>,
  ): Promise<T> => {
    const call = new BackendCall(operation, names, options.signal)
    return ask(call, () => run(passOn(options, call)))
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
    return ask(call, () => run(source, passOn(options, call)))
  }
  const open = (operation: Operation, names: Names, options: Call, run: (options: Call) => Promise<OpenFile>) => {
    const call = new BackendCall(operation, names, options.signal)
    return ask(call, () => run(passOn(options, call)).then((file) => watchFile(layer, call, file)))
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
      return new Iteration(layer, call, backend.list(folder, passOn(options, call)), 'answer')
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
    close: () => ask(new BackendCall('close', {}), () => backend.close()),
    ...(readMany && {
      readMany(folder, entries, options) {
        const call = new BackendCall('readMany', { folder }, options.signal)
        const read = () => readMany.call(backend, folder, entries, passOn(options, call))
        return ask(call, () => read().then((files) => closeIfAbandoned(call, files)))
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
    ...(usage && {
      usage: (folder, call) => pass('usage', { folder }, call, (call) => usage.call(backend, folder, call)),
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
      mount: (folder, path) => ask(new BackendCall('mount', { folder, path }), () => mount.call(backend, folder, path)),
    }),
    ...(readIdentity && {
      readIdentity: (call) => pass('readIdentity', {}, call, (call) => readIdentity.call(backend, call)),
    }),
    ...(writeIdentity && {
      writeIdentity: (text, call) => pass('writeIdentity', {}, call, (call) => writeIdentity.call(backend, text, call)),
    }),
    ...(listFolders && {
      listFolders(options) {
        const call = new BackendCall('listFolders', {}, options.signal)
        return new Iteration(layer, call, listFolders.call(backend, passOn(options, call)), 'answer')
      },
    }),
  } satisfies Backend
}

function composeLayers(layers: Layer[]): Layer {
  const innermost: Layer = (_call, next) => next()
  return layers.reduceRight<Layer>(
    (inner, outer) => (call, next, step) => outer(call, () => inner(call, next, step), step),
    innermost,
  )
}

/** Makes a rejection of what a backend throws. */
function attempt<T>(run: () => Promise<T>): Promise<T> {
  try {
    return Promise.resolve(run())
  } catch (error) {
    return Promise.reject(error)
  }
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
  readonly #layer: Layer
  readonly #call: BackendCall
  readonly #items: AsyncIterable<T>
  #step: Step
  #iterator: AsyncIterator<T> | undefined

  constructor(layer: Layer, call: BackendCall, items: AsyncIterable<T>, first: Step) {
    this.#layer = layer
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
    return this.#layer(this.#call, this.#ask, step)
  }

  return(): Promise<IteratorResult<T>> {
    return this.#layer(this.#call, () => this.#end(), 'end')
  }

  /** A generator ends only once the item that it was asked for last has come. */
  release(): Promise<unknown> | undefined {
    return this.#iterator?.return?.()
  }

  readonly #ask = (): Promise<IteratorResult<T>> => {
    try {
      this.#iterator ??= this.#items[Symbol.asyncIterator]()
      return this.#iterator.next()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async #end(): Promise<IteratorResult<T>> {
    await this.#iterator?.return?.()
    return { done: true, value: undefined }
  }
}

/** A file that was opened: its chunks are further steps of the call that opened it. */
function watchFile(layer: Layer, call: BackendCall, opened: OpenFile): OpenFile {
  const file = closeIfAbandoned(call, opened)
  const { entry, location } = file
  return {
    entry,
    chunks: (range) => new Iteration(layer, call, file.chunks(range), 'more'),
    ...(location && { location: () => location.call(file) }),
    close() {
      // Not while the backend may still read from it: the descriptor could be another file's by then.
      if (call.abandoned === undefined) file.close()
      else call.abandoned.released.then(() => file.close()).catch(() => {})
    },
  }
}
