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
import { homeOf, ownFiles, ownTrash, ownUploads } from './places.ts'

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
 */
export class Layout {
  readonly root: string
  readonly #hostRoot: string
  readonly identity: string
  readonly folders: string
  readonly staging: string
  readonly uploads: string
  readonly trash: string
  readonly ownPlaces: boolean
  /** It is on a server that other hosts use, too, through clients of NFS. */
  readonly isNfs: boolean
  readonly #turns: Turns
  readonly #known = new Cache<string>(10_000)

  private constructor(
    root: string,
    { ownPlaces = false, isNfs = false, turns = new Turns(), hostRoot = root }: LayoutOptions,
  ) {
    this.#turns = turns
    this.root = root
    this.#hostRoot = hostRoot
    this.ownPlaces = ownPlaces
    this.isNfs = isNfs
    this.identity = join(root, 'identity')
    this.folders = join(root, ownPlaces ? 'vfolders' : 'folders')
    this.staging = join(root, 'staging')
    this.uploads = join(root, 'uploads')
    this.trash = join(root, 'trash')
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
    { isKnown = false, ownPlaces = false }: { isKnown?: boolean | undefined; ownPlaces?: boolean | undefined } = {},
  ): Promise<Layout> {
    try {
      if (!isKnown) await makeDirectory(root)
      const layout = new Layout(await resolve(root), { ownPlaces })
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
    if (await isThere(this.folders)) await this.makePlaces()
  }

  async makePlaces(): Promise<void> {
    const places = [this.folders, this.staging, this.uploads, this.trash]
    const devices = new Set<number>()
    for (const place of places) {
      await makePlace(place, place === this.folders ? 0o755 : 0o700)
      devices.add((await stat(place)).dev)
    }
    if (devices.size > 1) {
      const names = places.map((place) => basename(place)).join(', ')
      throw new InvalidOperation(`${names} of the root must be on one filesystem`)
    }
  }

  /** A vfolder would look as if it were gone. */
  async #refuseOther(): Promise<void> {
    const other = this.ownPlaces ? 'folders' : 'vfolders'
    const names = await readdir(join(this.root, other)).catch(() => [])
    if (names.length > 0) {
      throw new InvalidOperation(`it has ${other}, so it is of a volume of another type`)
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
    const hash = createHash('sha256').update(own).digest('hex')
    const all = isTrash && !this.ownPlaces ? this.trash : this.folders
    const home = join(all, hash.slice(0, 2), hash.slice(2, 4), own)
    const folder = this.ownPlaces ? join(home, isTrash ? ownTrash : ownFiles) : home
    this.#known.set(id, folder)
    return folder
  }

  /** A path of the volume as others on the host know it, for whom a descriptor of this process leads nowhere. */
  onHost(path: string): string {
    return this.#hostRoot + path.slice(this.root.length)
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
    return join(this.ownPlaces ? join(homeOf(this.folder(folder)), ownUploads) : this.uploads, id)
  }

  /** What `folder` is given for the trash of a vfolder. */
  trashOf(id: string): string {
    return `${id}${trashSuffix}`
  }

  newTrash(id: string): string {
    return join(this.trash, `${id}.${randomUUID()}`)
  }
}

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
