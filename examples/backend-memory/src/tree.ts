import {
  AlreadyExists,
  type Amount,
  type Entry,
  IsADirectory,
  NotADirectory,
  NotFound,
  PreconditionFailed,
  type WriteOptions,
  type Written,
} from 'storage-proxy/backend'

export type Node = FileNode | DirectoryNode

interface FileNode {
  type: 'file'
  /** Never changed once it is stored, so a reader may keep it. */
  bytes: Buffer
  modifiedAt: Date
  etag: string
}

interface DirectoryNode {
  type: 'directory'
  modifiedAt: Date
}

let versions = 0

/** The entries of one vfolder by path. No call here waits for anything, so each is one step for everybody else. */
export class Tree {
  readonly #nodes = new Map<string, Node>()

  find(path: string): Node {
    const node = this.#nodes.get(path)
    if (node === undefined) throw new NotFound(`${path} does not exist`)
    return node
  }

  /** All entries below a directory, or below the root. */
  entries(path?: string): Entry[] {
    const prefix = path === undefined ? '' : `${path}/`
    return [...this.#nodes]
      .filter(([inside]) => inside.startsWith(prefix))
      .map(([inside, node]) => toEntry(inside, node))
  }

  amount(path?: string): Amount {
    const files = this.entries(path).filter(({ type }) => type === 'file')
    return { files: files.length, bytes: files.reduce((total, { size }) => total + size, 0) }
  }

  put(path: string, bytes: Buffer, { ifAbsent, ifMatch, modifiedAt }: Partial<WriteOptions>): Written {
    const old = this.#nodes.get(path)
    if (ifAbsent && old !== undefined) throw new AlreadyExists(`${path} exists already`)
    if (old?.type === 'directory') throw new IsADirectory(`${path} is a directory`)
    if (ifMatch !== undefined && old?.etag !== ifMatch) throw new PreconditionFailed(`${path} was changed meanwhile`)
    this.makeParents(path)
    const node: Node = { type: 'file', bytes, modifiedAt: modifiedAt ?? new Date(), etag: `v${++versions}` }
    this.#nodes.set(path, node)
    return { entry: toEntry(path, node), ...(old !== undefined && { replaced: old.bytes.length }) }
  }

  makeDirectory(path: string): void {
    if (this.#nodes.has(path)) throw new AlreadyExists(`${path} exists already`)
    this.makeParents(path)
    this.#nodes.set(path, { type: 'directory', modifiedAt: new Date() })
  }

  /** Takes an entry, and all that is below it, out, and gives it by the path that is left of each. */
  take(path: string): [inside: string, node: Node][] {
    this.find(path)
    const taken = [...this.#nodes].filter(([inside]) => inside === path || inside.startsWith(`${path}/`))
    for (const [inside] of taken) this.#nodes.delete(inside)
    return taken.map(([inside, node]) => [inside.slice(path.length), node])
  }

  /** The reverse of `take`, below a directory that is there. */
  place(path: string, taken: [inside: string, node: Node][]): void {
    for (const [inside, node] of taken) this.#nodes.set(path + inside, node)
  }

  peek(path: string): Node | undefined {
    return this.#nodes.get(path)
  }

  /** @throws {NotADirectory} when one of them is a file */
  makeParents(path: string): void {
    const names = path.split('/').slice(0, -1)
    const parents = names.map((_, depth) => names.slice(0, depth + 1).join('/'))
    const file = parents.find((parent) => this.#nodes.get(parent)?.type === 'file')
    if (file !== undefined) throw new NotADirectory(`${file} is not a directory`)
    for (const parent of parents) {
      if (!this.#nodes.has(parent)) this.#nodes.set(parent, { type: 'directory', modifiedAt: new Date() })
    }
  }
}

export function toEntry(path: string, node: Node): Entry {
  const { type, modifiedAt } = node
  if (type === 'directory') return { path, type, size: 0, modifiedAt }
  return { path, type, size: node.bytes.length, modifiedAt, etag: node.etag }
}
