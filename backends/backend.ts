import type { EntryPath } from './path.ts'
import type { Pattern } from './pattern.ts'

/**
 * The contract between the service and one kind of storage.
 *
 * A backend stores vfolders, each named by a UUID, and the entries inside them, each named by its path relative to the
 * vfolder. It is given an `EntryPath`, a string that keeps the rules of `path.ts`, and need not check it again; its own
 * methods may just take a `string`. It never sees HTTP and never decides about permissions or quotas. It reports failures
 * by throwing the errors of `errors.ts`.
 *
 * Every call takes an `AbortSignal`. An aborted call rejects, leaves nothing visible and releases what it held. A call
 * that fails when its change is seen already throws `Unconfirmed`, so that the change counts.
 *
 * What not every storage can do is an optional member: its presence is the capability (`capabilities.ts`).
 */
export interface Backend {
  readonly limits: Limits

  /**
   * Creates an empty vfolder, with the owner and the mode of the volume's options where the storage keeps them. Creating
   * one that exists finishes what an earlier call began, and leaves alone what is in it.
   */
  createFolder(folder: string, options: CreateFolderOptions): Promise<void>

  /**
   * Makes the vfolder vanish, in one step where the storage has one, and then frees its bytes. A call that did not come
   * to its end is continued by the next one. Removing one that does not exist succeeds.
   */
  removeFolder(folder: string, options: Call & { onProgress?: OnProgress }): Promise<void>

  /** Describes one entry; a symlink is not followed. @throws {NotFound} */
  stat(folder: string, path: EntryPath, call: Call): Promise<Entry>

  /**
   * Yields the entries of a directory, or of the whole tree below it, in constant memory and in byte order of their
   * paths, where a directory's path counts as ending in `/` (the order of keys in an S3 listing and of a Git tree; see
   * `order.ts`). Symlinks are yielded and never followed.
   * @throws {NotFound} when the directory does not exist
   * @throws {NotADirectory}
   */
  list(folder: string, options: ListOptions): AsyncIterable<Entry>

  /**
   * Opens a file for reading; symlinks are followed as long as they stay inside the vfolder. The caller must `close`
   * what it was given.
   * @throws {NotFound}
   * @throws {IsADirectory}
   * @throws {OutsideFolder}
   */
  read(folder: string, path: EntryPath, call: Call): Promise<OpenFile>

  /**
   * Stores a file, replacing one of that name, and creates the directories that lead to it. When it resolves the bytes
   * are durable; a reader sees the old file or the new one, never a part. The backend may read a chunk of `source`
   * until it asks for the next one; then the memory of the chunk is used again or gone. An error of `source` is passed
   * on as it is.
   * @throws {AlreadyExists} with `ifAbsent`, decided in the same step that makes the file appear
   * @throws {PreconditionFailed} with `ifMatch`, when what would be replaced does not have that etag; decided in the
   * same step where the storage can, otherwise right before it
   * @throws {IsADirectory}
   * @throws {SizeMismatch} when `source` ends before or after `size` bytes
   * @throws {NoSpace} when the storage is full; nothing partial stays, here and wherever bytes are stored
   * @throws {QuotaExceeded} the same, when a limit that the storage itself keeps was reached
   */
  write(folder: string, path: EntryPath, source: AsyncIterable<Buffer>, options: WriteOptions): Promise<Written>

  /**
   * Prepares for the bytes of a resumable upload, which belong to no entry yet. Only the calls below remove them, and
   * only one of these calls runs at a time for one upload. A second call changes nothing.
   */
  beginUpload(folder: string, upload: string, call: Call): Promise<void>

  /**
   * Stores the bytes of `source` from `offset` on, and replaces what is there behind `offset`. It resolves to the new
   * offset, and all bytes before that are durable. When it rejects, the bytes before `offset` still are, and so are
   * those before the last offset given to `onDurable`. The chunks are as those of `write`.
   * @throws {UploadNotFound}
   * @throws {NoSpace}
   */
  appendUpload(folder: string, upload: string, source: AsyncIterable<Buffer>, options: AppendOptions): Promise<number>

  /** Opens the bytes that an upload has so far, to be closed by the caller. @throws {UploadNotFound} */
  readUpload(folder: string, upload: string, call: Call): Promise<OpenFile>

  /**
   * Makes a file of the first `size` bytes of an upload, by the rules of `write`, and forgets the upload. When it
   * rejects, the upload is there as before; after a crash it may be a file already.
   * @throws {UploadNotFound} when it was completed or aborted before
   */
  completeUpload(folder: string, upload: string, path: EntryPath, options: CompleteOptions): Promise<Written>

  /** Frees the bytes of an upload. Aborting one that does not exist succeeds. */
  abortUpload(folder: string, upload: string, call: Call): Promise<void>

  /** Creates a directory and those that lead to it. @throws {AlreadyExists} when it is there already */
  mkdir(folder: string, path: EntryPath, call: Call): Promise<void>

  /**
   * Renames an entry, creating the directories that lead to its new name. An existing target is only replaced when
   * `overwrite` is set and both are files or symlinks. Where the storage has no such step, others see a part of a
   * directory meanwhile, and the same call goes on with what an earlier one began, as far as the storage can tell.
   * @throws {NotFound}
   * @throws {AlreadyExists}
   * @throws {InvalidOperation} when a directory would move into itself
   */
  move(folder: string, from: EntryPath, to: EntryPath, options: MoveOptions): Promise<Amount>

  /**
   * Removes an entry; a directory that has entries only with `recursive`, and then it vanishes in one step where the
   * storage has one.
   * @throws {NotFound}
   * @throws {NotEmpty}
   * @throws {EntryAccessDenied} when something in a directory cannot be removed; what is left of it is where it was
   */
  remove(folder: string, path: EntryPath, options: RemoveOptions): Promise<Amount>

  /**
   * Frees what dead writers left behind: staged bytes not written to for `idleSeconds`, which is the number that
   * `create` got.
   */
  collectGarbage(options: Call & { idleSeconds: number }): Promise<Amount>

  /** Rejects when the storage cannot serve now, with a sentence that says why. */
  health(call: Call): Promise<void>

  close(): Promise<void>

  /** The same as `list`, with many entries at a time: each by itself costs more than to read it from a large directory. */
  listMany?(folder: string, options: ListOptions): AsyncIterable<Entry[]>

  /**
   * The bytes of whole files, as they were listed. This is faster than a `read` for each, and meant for small files,
   * since all are in memory at once. The caller must `close` what it was given.
   * @throws {SourceChanged} when a file is no longer what its entry says
   * @throws {NotFound}
   */
  readMany?(folder: string, entries: Entry[], call: Call): Promise<WholeFiles>

  /**
   * Copies a file or a symlink without passing its bytes through the service. The rules of `write` hold for the copy.
   */
  copy?(folder: string, from: EntryPath, to: EntryPath, options: CopyOptions): Promise<Written>

  /**
   * Copies a directory with all that is in it to a name that is free, in one step: a call that fails, or whose process
   * dies, leaves nothing of that name. The bytes do not pass through the service; modes, modification times, symlinks,
   * empty directories and holes are kept. When it resolves the copy is durable.
   * @throws {NotFound}
   * @throws {AlreadyExists}
   * @throws {SourceChanged} when a file changed each time it was copied
   * @throws {NoSpace}
   */
  copyTree?(folder: string, from: EntryPath, to: EntryPath, options: CopyTreeOptions): Promise<Amount>

  /**
   * Copies all entries of the vfolder `from` into `to`, which exists, is empty or has what an earlier call left, and is
   * used by nobody else. Their bytes do not pass through the service; modes, modification times, symlinks, empty
   * directories and holes are kept. When it resolves the copy is durable. A file is copied as it was at one moment or
   * the call fails; the result names entries that came, went or changed meanwhile.
   * @throws {SourceChanged} when a file changed each time it was copied
   * @throws {NoSpace}
   * @throws {EntryAccessDenied}
   */
  clone?(from: string, to: string, options: CloneOptions): Promise<Cloned>

  /** Counts the files and symlinks of a vfolder, and the bytes of the files, faster than `list` would. */
  count?(folder: string, call: Call): Promise<Amount>

  /**
   * What the storage itself says that a vfolder has, in constant time, as it compares it with the limits of `quota`. So
   * what users wrote past the service counts; bytes may be those on its disks, and what it keeps beside the files may
   * count. A change shows at the latest after `limits.usageDelaySeconds`.
   * @throws {NotFound}
   */
  usage?(folder: string, call: Call): Promise<Usage>

  /**
   * Has the storage itself keep the limits of a vfolder, also against those who write past the service: from then on it
   * refuses what goes over one with `QuotaExceeded`, as soon as it knows. They replace the earlier ones and may be below
   * the usage. A limit that the storage has no notion of, such as one of files, is left to the service. The same call
   * twice is one.
   * @throws {NotFound}
   */
  quota?(folder: string, limits: QuotaLimits, call: Call): Promise<void>

  /** Creates a symlink. The rules of `write` hold for it. */
  symlink?(folder: string, path: EntryPath, target: string, options: Call & { ifAbsent?: boolean }): Promise<Written>

  /** The storage's size. */
  capacity?(call: Call): Promise<Capacity>

  /**
   * A URL by which anybody reads the file from the storage itself, with ranges, until it expires. It is for one file
   * and for reading only. Nobody checks whether the file is there.
   */
  presign?(folder: string, path: EntryPath, options: PresignOptions): Promise<string>

  /**
   * Lets clients send the bytes of an upload, which was begun and has none yet, to the storage itself: each part by one
   * PUT of exactly its bytes, in any order, and again where one failed. The service appends nothing to such an upload;
   * the rest is as with any other, so `readUpload` tells how many bytes there are without a gap from the first one on.
   */
  presignUpload?(folder: string, upload: string, options: PresignUploadOptions): Promise<PresignedPart[]>

  /** Where a host mounts or reaches the entry; an absent path is the vfolder itself. */
  mount?(folder: string, path: EntryPath | undefined): Promise<MountPoint>

  /**
   * The name by which other calls reach the trash of a vfolder: a place of its own, which `createFolder` makes and in
   * which `move` (to and from the vfolder), `stat`, `list` and `remove` work as in a vfolder. No call with the vfolder's
   * own name sees what is in it, but `removeFolder` of the vfolder removes it too; `listFolders` does not yield it. A
   * move between the two keeps bytes, modes and modification times, as far as any move of the storage does.
   */
  trash?(folder: string): string

  /**
   * The text that `writeIdentity` stored, by which the service tells this storage from another one in its place, such as
   * an empty directory where nothing is mounted; undefined when there is none.
   */
  readIdentity?(call: Call): Promise<string | undefined>

  /** Stores a short text durably beside all vfolders, in the place of an earlier one, and makes the volume ready for use. */
  writeIdentity?(text: string, call: Call): Promise<void>

  /** Yields the IDs of all vfolders that the storage has, in an order of its own; those after the given one. */
  listFolders?(options: Call & { after?: string }): AsyncIterable<string>

  /**
   * The name by which all other calls reach a vfolder, in the place of its ID, where the storage keeps vfolders by their
   * quota scopes: something of the scope's, `/`, and the ID. `listFolders` then yields such names. Undefined when no
   * vfolder of that scope can be there.
   */
  folderOf?(id: string, quotaScope: string | null): string | undefined
}

export interface Limits {
  /** The largest file, in bytes. */
  readonly maxFileBytes: number
  /** How long after a change `usage` may tell, and `quota` go by, what was before; absent: not at all. */
  readonly usageDelaySeconds?: number
}

export interface Call {
  signal: AbortSignal
}

export interface CreateFolderOptions extends Call {
  /** Of its directory, where the storage keeps it; absent: that of the volume's options. */
  mode?: number | undefined
}

export interface Entry {
  /** As it is in the storage. Users may have made it longer than a path can be. */
  path: string
  type: 'file' | 'directory' | 'symlink'
  /** Bytes of a file, 0 of a directory, bytes of a symlink's target. */
  size: number
  modifiedAt: Date
  /** When its bytes, its owner, its mode or its name last changed, where the storage keeps that; nobody can set it. */
  changedAt?: Date
  /** Permission bits of a file or directory, where the storage keeps them. */
  mode?: number
  /** The target of a symlink, as it is stored. */
  target?: string
  /** Of files only: a strong validator without quotes (RFC 9110, section 8.8.1): other bytes, other tag. */
  etag?: string
}

export interface ListOptions extends Call {
  /** The directory to list; absent for the vfolder's root. */
  path?: EntryPath
  recursive?: boolean
  /** Yields only what comes after this position, an `orderKey` of an earlier entry. */
  after?: string
  /**
   * Of what is yielded the caller takes only entries that match. What does not may be left out, or passed over without
   * a look at it, as far as that is of use to the backend.
   */
  pattern?: Pattern
  /** About so many entries are going to be taken. Changes nothing but how much a backend reads at a time. */
  limit?: number
}

export interface OpenFile {
  readonly entry: Entry
  /**
   * The bytes from `start` up to and without `end`. A chunk belongs to the caller until it asks for the next one or
   * ends the iteration; then its memory is used again. The iteration throws when the file turns out to be shorter than
   * `entry` said.
   */
  chunks(range: { start: number; end: number }): AsyncIterable<Buffer>
  /**
   * All of the file, of a small one that was read when it was opened, which spares the steps of `chunks`. It belongs to
   * the caller. Absent where the bytes are still to be read, or are not as many as `entry` says.
   */
  readonly content?: Buffer
  /**
   * Where a host that mounts the storage finds this very file: below the path of `mount` for its vfolder, and without a
   * symlink in between. Undefined when it was moved, replaced or removed. Absent where files have no such path.
   */
  location?(): Promise<string | undefined>
  close(): void
}

export interface WholeFiles {
  /** In the order of the entries. They belong to the caller until it closes. */
  contents: Buffer[]
  /** A second call does nothing. */
  close(): void
}

export interface WriteOptions extends Call {
  /** Bytes to come, when known. */
  size?: number
  ifAbsent?: boolean
  ifMatch?: string
  /** Of the file, where the storage keeps it; absent: that of the moment. */
  modifiedAt?: Date
  /** Of the file, where the storage keeps it; absent: that of the volume's options. */
  mode?: number
  /** To be called, where it takes longer until the file is durable, as soon as others see it. */
  onAppeared?(written: Written): void
}

export interface AppendOptions extends Call {
  offset: number
  /**
   * To be called, where the storage knows it before the end, with an offset before which all bytes are durable. Should
   * the call fail or the process die, the bytes before the last such offset count; without one, only those from before
   * the call.
   */
  onDurable?(offset: number): void
}

export interface CompleteOptions extends Call {
  size: number
  ifAbsent?: boolean
}

export interface CopyOptions extends Call {
  ifAbsent?: boolean
  /** The vfolder of the new name; absent: the same. */
  toFolder?: string
}

export interface CopyTreeOptions extends Call {
  /** The vfolder of the new name; absent: the same. */
  toFolder?: string
  /** Asked, with what was copied, right before it appears; when it rejects, so does the call. */
  admit(copied: Amount): Promise<void>
}

export interface MoveOptions extends Call {
  overwrite?: boolean
  /** The vfolder of the new name; absent: the same. */
  toFolder?: string
  /**
   * Called with how much this call has taken from the old name so far, where others see a directory go bit by bit. It
   * counts when the call fails, too.
   */
  onProgress?: OnProgress | undefined
  /** Called when this call goes on with what an earlier one began, and of which somebody may have counted a part. */
  onResume?: (() => void) | undefined
}

export interface PresignOptions extends Call {
  expiresInSeconds: number
  /** Header fields that the storage answers with: how the file is presented. */
  contentType: string
  contentDisposition: string
}

export interface PresignUploadOptions extends Call {
  expiresInSeconds: number
  /** Bytes of the whole. */
  size: number
}

/** The bytes from `start` up to and without `end`. */
export interface PresignedPart {
  url: string
  start: number
  end: number
}

/** Called from time to time with how much of the whole is done. */
export type OnProgress = (done: Amount) => void

export interface CloneOptions extends Call {
  onProgress: OnProgress
  /** The value that `onCheckpoint` got last, when an earlier call of `clone` did not come to its end. */
  checkpoint?: unknown
  /** Called with a value that JSON can hold, from which a later call can go on. */
  onCheckpoint: (checkpoint: unknown) => void
}

export interface Cloned {
  /** What was copied; both are absent where the storage copies a vfolder in one step and counts nothing. */
  files?: number
  bytes?: number
  /** Paths of entries that came, went or changed during the clone: the first hundred. */
  changed: string[]
  changedCount: number
}

export interface RemoveOptions extends Call {
  recursive?: boolean
  /**
   * Called with how much is gone so far of a directory. It counts when the call fails, beside what an `Unconfirmed` then
   * says.
   */
  onProgress?: OnProgress | undefined
}

/** Files count symlinks too; bytes are those of files. */
export interface Amount {
  files: number
  bytes: number
}

export interface Usage {
  bytes: number
  /** Absent where the storage does not count files. */
  files?: number
}

/** Null is no limit. */
export interface QuotaLimits {
  bytes: number | null
  files: number | null
}

export interface Written {
  entry: Entry
  /** Bytes of the file that was replaced; absent when there was none. */
  replaced?: number
}

export interface Capacity {
  totalBytes: number
  availableBytes: number
}

export type MountPoint = { type: 'path'; path: string } | { type: 's3'; bucket: string; prefix: string }
