import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { Call } from '../backend.ts'
import type { Bucket, StoredObject } from './bucket.ts'
import { directoryExists } from './entry.ts'
import { isCurrent } from './list.ts'
import type { Store } from './store.ts'
import { keepTouching } from './touch.ts'

// What of a move is under way is written down, so that the same call, or the cleanup, goes on with a move whose process
// died, and does not take its own copies for somebody else's files; see docs/s3-moves.md.

const Place = Type.Object({ folder: Type.String(), path: Type.String() })
const Journal = Type.Object({
  from: Place,
  to: Place,
  directory: Type.Boolean(),
  replaced: Type.Object({ files: Type.Integer(), bytes: Type.Integer() }),
  /** Of the file that is to be replaced. */
  replacedEtag: Type.Optional(Type.String()),
  /** The ID of the lock on the source. */
  lock: Type.Optional(Type.String()),
})
export type Journal = typeof Journal.static

interface Written {
  journal: Journal
  /** Last; what is of the same second counts as earlier. */
  at: number
}

async function writeJournal(bucket: Bucket, key: string, journal: Journal, { signal }: Call): Promise<void> {
  await bucket.put(key, Buffer.from(JSON.stringify(journal)), { signal })
}

/** The journal of a move that is at work, which the cleanup leaves alone meanwhile. */
export class OpenJournal {
  readonly #store: Store
  readonly #key: string
  #stopTouching = async () => {}

  constructor(store: Store, key: string) {
    this.#store = store
    this.#key = key
  }

  async write(journal: Journal, call: Call): Promise<void> {
    const { bucket, touchMilliseconds } = this.#store
    await writeJournal(bucket, this.#key, journal, call)
    this.#stopTouching = keepTouching(touchMilliseconds, (call) => writeJournal(bucket, this.#key, journal, call))
  }

  /** The move is done. */
  async forget(call: Call): Promise<void> {
    await this.leave()
    await this.#store.bucket.delete(this.#key, call)
  }

  /** Ends the work, done or not. */
  leave(): Promise<void> {
    return this.#stopTouching()
  }
}

/** Gives the move of a journal that is to be gone on with. Any other journal is forgotten. */
export async function unfinishedMove(store: Store, key: string, call: Call): Promise<Journal | undefined> {
  const written = await readJournal(store.bucket, key, call)
  if (written === undefined) return undefined
  if (await isUnfinished(store, written, call)) return written.journal
  await store.bucket.delete(key, call)
  return undefined
}

async function readJournal(bucket: Bucket, key: string, { signal }: Call): Promise<Written | undefined> {
  const object = await bucket.head(key, { signal })
  if (object === undefined) return undefined
  const chunks: Buffer[] = []
  for await (const chunk of await bucket.get(object, { start: 0, end: object.size }, { signal })) chunks.push(chunk)
  const journal: unknown = JSON.parse(Buffer.concat(chunks).toString())
  return Value.Check(Journal, journal) ? { journal, at: object.modifiedAt.getTime() + 999 } : undefined
}

/**
 * Whether there is still something of what was to move, and somewhere to move it. The last step of a move is to forget
 * it, and may have failed: then all that has the old name is younger than the journal, and no part of the move.
 */
async function isUnfinished(store: Store, { journal, at }: Written, call: Call): Promise<boolean> {
  const { bucket, keys } = store
  const { from, to, directory } = journal
  if (!(await directoryExists(store, keys.folder(to.folder).slice(0, -1), call))) return false
  const fromKey = keys.entry(from.folder, from.path)
  const isOlder = ({ modifiedAt }: StoredObject) => modifiedAt.getTime() <= at
  if (directory) {
    for await (const page of bucket.pages({ ...call, prefix: `${fromKey}/` })) if (page.some(isOlder)) return true
    return false
  }
  const [source, target] = await Promise.all([
    bucket.head(fromKey, call),
    bucket.head(keys.entry(to.folder, to.path), call),
  ])
  if (source === undefined || !isOlder(source)) return false
  // Else somebody wrote to the new name, whose file stays; so does this one.
  return target === undefined || isReplaced(journal, target) || isCurrent(source, target)
}

/** Whether this is still the file that is to be replaced. */
export function isReplaced({ replacedEtag }: Journal, { etag }: StoredObject): boolean {
  return etag === replacedEtag
}
