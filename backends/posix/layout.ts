import { createHash, randomUUID } from 'node:crypto'
import { stat as bigStat, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { LruMap as Cache } from 'toad-cache'
import type { Call } from '../backend.ts'
import { InvalidOperation } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { Turns } from '../turns.ts'
import type { Ownership } from './directory.ts'
import { errnoOf } from './errno.ts'
import { isThere, mkdir, readdir, stat } from './files.ts'
import {
  homeOf,
  ownFiles,
  ownName,
  ownStaging,
  ownTrash,
  ownUploads,
  removedOf,
  scopeName,
  scopeOf,
  stagingOf,
} from './places.ts'
import { translateStaging } from './staging.ts'

/** An entry of a vfolder, and how what is created there is owned. */
export interface Place {
  layout: Layout
  ownership: Ownership
  /** The directory of the vfolder. */
  root: string
  names: string[]
}

/** No ID of a vfolder has a dot. */
const trashSuffix = '.trash'

export interface LayoutOptions {
  ownPlaces?: boolean | undefined
  byScope?: boolean | undefined
  isNfs?: boolean | undefined
  /** Shared by the layouts of one volume. */
  turns?: Turns
  /** Of a root that is open: where the host has it. */
  hostRoot?: string
}

/**
 * Where things are below a volume's root:
 *
 *     folders/3f/a1/ID   the vfolders, spread by a hash of their ID over 65,536 directories
 *     staging/           files being written, directories being removed, large files that were replaced; for nobody else
 *     uploads/ID         the bytes of resumable uploads, for as long as these live
 *     trash/ID.UUID      removed vfolders, until their bytes are freed
 *     trash/3f/a1/ID/    the trash of a vfolder: entries that were deleted and can be restored
 *     identity           by which the service tells the volume from another one in its place
 *
 * All of them must be on one filesystem, since entries move between them by rename(2).
 *
 * A storage that limits a directory, or counts what is in it, takes nothing into it by rename(2) or link(2) from
 * outside (EXDEV). There each vfolder has places of its own, `ownPlaces`, and nobody but the service gets into them:
 *
 *     vfolders/3f/a1/ID          what the storage limits
 *     vfolders/3f/a1/ID/files    the entries of the vfolder, where its users and their mounts are
 *     vfolders/3f/a1/ID/staging  files being written, directories being removed, large files that were replaced
 *     vfolders/3f/a1/ID/uploads  the bytes of resumable uploads
 *     vfolders/3f/a1/ID/trash    entries that were deleted and can be restored
 *
 * Where Backend.AI has made a volume, or is to go on with it, they are as that has them, `byScope`: a vfolder is in the
 * directory of its quota scope. What it does not know has a name that it does not look for. It is below the scope, too,
 * since Backend.AI limits that directory; and is made when it is first needed, so that what is only read stays as it is.
 *
 *     SCOPE/3f/a1/REST                  the vfolders; names are the UUIDs of scope and vfolder in hexadecimal
 *     SCOPE/.storage-proxy/staging      files being written, directories being removed, large files that were replaced
 *     SCOPE/.storage-proxy/uploads      the bytes of resumable uploads
 *     SCOPE/.storage-proxy/trash/ID.UUID  removed vfolders, until their bytes are freed
 *     SCOPE/.storage-proxy/trash/ID/    the trash of a vfolder
 *     .storage-proxy/identity           as above
 *     .storage-proxy/staging            what is tried, for a moment
 */
export class Layout {
  readonly root: string
  readonly #hostRoot: string
  readonly identity: string
  /** What a volume always has; the first has the modes of any directory. */
  readonly places: readonly string[]
  readonly folders: string
  readonly staging: string
  readonly uploads: string
  readonly trash: string
  readonly ownPlaces: boolean
  readonly byScope: boolean
  /** It is on a server that other hosts use, too, through clients of NFS. */
  readonly isNfs: boolean
  readonly #turns: Turns
  readonly #known = new Cache<string>(10_000)
  /** Scopes whose places are there. */
  readonly #prepared = new Cache<true>(10_000)

  private constructor(root: string, options: LayoutOptions) {
    const { ownPlaces = false, byScope = false, isNfs = false, turns = new Turns(), hostRoot = root } = options
    this.#turns = turns
    this.root = root
    this.#hostRoot = hostRoot
    this.ownPlaces = ownPlaces
    this.byScope = byScope
    this.isNfs = isNfs
    const own = byScope ? join(root, ownName) : root
    this.identity = join(own, 'identity')
    this.folders = byScope ? root : join(root, ownPlaces ? 'vfolders' : 'folders')
    this.staging = join(own, 'staging')
    this.uploads = join(own, 'uploads')
    this.trash = join(own, 'trash')
    this.places = byScope ? [own, this.staging] : [this.folders, this.staging, this.uploads, this.trash]
  }

  /** Of a root that is open: its paths lead through the descriptor, and so to that very filesystem. */
  static at(path: string, options: LayoutOptions): Layout {
    return new Layout(path, options)
  }

  /**
   * Of a volume that is known nothing is made: where its places are missing it is not mounted.
   * @throws when the places cannot be made or are not on one filesystem
   */
  static async create(
    root: string,
    { isKnown = false, ...options }: Omit<LayoutOptions, 'turns'> & { isKnown?: boolean | undefined } = {},
  ): Promise<Layout> {
    try {
      if (!isKnown) await makeDirectory(root)
      const layout = new Layout(await resolve(root), options)
      await layout.complete()
      if (!isKnown) await layout.makePlaces()
      return layout
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new Error(`${reason}; root must be a directory that the service can write to, not ${root}`, {
        cause: error,
      })
    }
  }

  /** Makes what is missing of a volume that is there. */
  async complete(): Promise<void> {
    await this.#refuseOther()
    const [first = this.folders] = this.places
    if (await isThere(first)) await this.makePlaces()
  }

  async makePlaces(): Promise<void> {
    const devices = new Set<number>()
    for (const [index, place] of this.places.entries()) {
      await makePlace(place, index === 0 ? 0o755 : 0o700)
      devices.add((await stat(place)).dev)
    }
    if (devices.size > 1) {
      const names = this.places.map((place) => basename(place)).join(', ')
      throw new InvalidOperation(`${names} of the root must be on one filesystem`)
    }
  }

  /** A vfolder would look as if it were gone. */
  async #refuseOther(): Promise<void> {
    for (const other of ['folders', 'vfolders', ownName]) {
      if (this.places[0] === join(this.root, other)) continue
      const names = await readdir(join(this.root, other)).catch(() => [])
      if (names.length > 0) {
        throw new InvalidOperation(`it has ${other}, so it is of a volume of another type or layout`)
      }
    }
    const names = await readdir(this.root).catch(() => [])
    if (!this.byScope && names.some((name) => scopeName.test(name))) {
      throw new InvalidOperation('it has directories of quota scopes, so its layout must be backend-ai')
    }
  }

  /**
   * The directory with the entries of a vfolder, or of its trash. Without a symlink in it, so it can be compared with what the kernel
   * calls a file.
   */
  folder(id: string): string {
    const known = this.#known.get(id)
    if (known !== undefined) return known
    const isTrash = id.endsWith(trashSuffix)
    const own = isTrash ? id.slice(0, -trashSuffix.length) : id
    if (this.byScope) return this.#remember(id, this.#inScope(own, isTrash))
    const hash = createHash('sha256').update(own).digest('hex')
    const all = isTrash && !this.ownPlaces ? this.trash : this.folders
    const home = join(all, hash.slice(0, 2), hash.slice(2, 4), own)
    return this.#remember(id, this.ownPlaces ? join(home, isTrash ? ownTrash : ownFiles) : home)
  }

  #inScope(name: string, isTrash: boolean): string {
    const [scope, id] = name.split('/')
    if (scope === undefined || id === undefined)
      throw new Error(`${name} has no scope, by which this volume has vfolders`)
    const directory = join(this.root, toHex(scope))
    if (isTrash) return join(directory, ownName, ownTrash, id)
    const hex = toHex(id)
    return join(directory, hex.slice(0, 2), hex.slice(2, 4), hex.slice(4))
  }

  #remember(id: string, folder: string): string {
    this.#known.set(id, folder)
    return folder
  }

  /** A path of the volume as others on the host know it, for whom a descriptor of this process leads nowhere. */
  onHost(path: string): string {
    return this.#hostRoot + path.slice(this.root.length)
  }

  /** See `Backend`. */
  folderOf(id: string, quotaScope: string | null): string | undefined {
    const scope = quotaScopes.exec(quotaScope ?? '')?.[1]
    return scope === undefined ? undefined : `${scope}/${id}`
  }

  /** Makes what a scope has beside its vfolders, unless it is there, where there are scopes. @throws with ENOENT without one */
  async prepare(folder: string): Promise<void> {
    const scope = this.byScope ? scopeOf(this.folder(folder)) : undefined
    if (scope === undefined || this.#prepared.get(scope)) return
    await translateStaging(this.folder(folder), 'the directory of the scope', async () => {
      const own = join(scope, ownName)
      for (const place of [own, ...[ownStaging, ownUploads, ownTrash].map((name) => join(own, name))]) {
        await makePlace(place, 0o700)
      }
    })
    this.#prepared.set(scope, true)
  }

  /** Changes one entry, or two, while this process does nothing else about them. */
  inTurn<T>(places: Pick<Place, 'root' | 'names'>[], call: Call, work: () => Promise<T>): Promise<T> {
    // In order, so that two who want the same two do not wait for each other.
    const keys = new Set(places.map(({ root, names }) => join(root, ...names)))
    return [...keys].sort().reduceRight((next, key) => () => this.#turns.run(key, call, next), work)()
  }

  /** A new name in the staging place of the volume, or in that of a vfolder. */
  newStaging(place = this.staging): string {
    return join(place, randomUUID())
  }

  upload(folder: string, id: string): string {
    const root = this.folder(folder)
    if (this.ownPlaces) return join(homeOf(root), ownUploads, id)
    return join(this.byScope ? join(dirname(stagingOf(root)), ownUploads) : this.uploads, id)
  }

  /** What `folder` is given for the trash of a vfolder. */
  trashOf(id: string): string {
    return `${id}${trashSuffix}`
  }

  newTrash(folder: string): string {
    return join(removedOf(this.folder(folder)), `${idOf(folder)}.${randomUUID()}`)
  }
}

/** The quota scopes of Backend.AI. */
const quotaScopes = /^(?:user|project):([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/

const toHex = (uuid: string) => uuid.replaceAll('-', '')

/** Of a vfolder that may be named by its scope, too. */
export const idOf = (folder: string) => folder.slice(folder.lastIndexOf('/') + 1)

/** Never what leads to it: a root that is gone stays gone. */
async function makePlace(place: string, mode: number): Promise<void> {
  await mkdir(place, mode).catch((error) => {
    if (errnoOf(error) !== 'EEXIST') throw error
  })
}

/**
 * The directories that lead to a root, and the root itself, as the kernel tells them apart: whatever symlinks and bind
 * mounts lead there. What is not there yet has its path below what is.
 */
export async function placesOf(root: string): Promise<string[]> {
  const path = await resolve(root)
  const above = dirname(path) === path ? [] : await placesOf(dirname(path))
  try {
    const { dev, ino } = await bigStat(path, { bigint: true })
    return [...above, `${dev}:${ino}`]
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    return [...above, `${above.at(-1)}/${basename(path)}`]
  }
}

/** Without symlinks; of a path that is not there, its part that is. */
async function resolve(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' || dirname(path) === path) throw error
    return join(await resolve(dirname(path)), basename(path))
  }
}
