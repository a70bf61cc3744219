import { sum } from '../amount.ts'
import type { Amount, Backend } from '../backend.ts'
import type { CreateContext } from '../definition.ts'
import { Turns } from '../turns.ts'
import { Bucket } from './bucket.ts'
import { createClient, createPresigner, Presigner } from './client.ts'
import { cloneFolder } from './clone.ts'
import { Conditions } from './conditions.ts'
import { copyEntry } from './copy.ts'
import { makeDirectory, putMarker, statEntry } from './entry.ts'
import { collectGarbage } from './garbage.ts'
import { listFolders, readIdentity, writeIdentity } from './identity.ts'
import { Keys } from './layout.ts'
import { countFolder, listEntries } from './list.ts'
import { moveEntry } from './move.ts'
import { maxParts } from './multipart.ts'
import type { S3Options } from './options.ts'
import { PartBuffers } from './parts.ts'
import { openEntry } from './read.ts'
import { removeEntry, removeTree } from './remove.ts'
import { type Store, touchesPerIdle } from './store.ts'
import { abortUpload, appendUpload, beginUpload, completeUpload, openUpload, presignUpload } from './upload.ts'
import { writeFile } from './write.ts'

/** How often at least what is being written is touched. */
const longestTouchMilliseconds = 30_000

function createS3Backend(store: Store) {
  const { bucket, keys, buffers, presigner } = store

  return {
    limits: Object.freeze({ maxFileBytes: maxParts * buffers.bytes }),

    createFolder: (folder, call) => putMarker(store, keys.folder(folder), call),

    async removeFolder(folder, { signal, onProgress }) {
      const trashed = await removeTree(store, keys.folder(keys.trashOf(folder)), { signal, onProgress })
      const onMore = onProgress && ((done: Amount) => onProgress(sum(trashed, done)))
      await removeTree(store, keys.folder(folder), { signal, onProgress: onMore })
    },

    stat: (folder, path, call) => statEntry(store, folder, path, call),

    list: (folder, options) => listEntries(store, folder, options),

    read: (folder, path, call) => openEntry(store, folder, path, call),

    write: (folder, path, source, options) => writeFile(store, { folder, path }, source, options),

    beginUpload: (_folder, upload, call) => beginUpload(store, upload, call),

    appendUpload: (_folder, upload, source, options) => appendUpload(store, upload, source, options),

    readUpload: (_folder, upload, call) => openUpload(store, upload, call),

    completeUpload: (folder, upload, path, options) => completeUpload(store, { folder, path }, upload, options),

    abortUpload: (_folder, upload, call) => abortUpload(store, upload, call),

    copy: (folder, from, to, options) =>
      copyEntry(store, { folder, path: from }, { folder: options.toFolder ?? folder, path: to }, options),

    clone: (from, to, options) => cloneFolder(store, from, to, options),

    count: (folder, call) => countFolder(store, folder, call),

    mkdir: (folder, path, call) => makeDirectory(store, folder, path, call),

    move: (folder, from, to, options) =>
      moveEntry(store, { folder, path: from }, { folder: options.toFolder ?? folder, path: to }, options),

    remove: (folder, path, options) => removeEntry(store, folder, path, options),

    collectGarbage: (options) => collectGarbage(store, options),

    health: (call) => bucket.reach(keys.prefix, call),

    presign: (folder, path, options) => presigner.download(keys.entry(folder, path), options),

    presignUpload: (_folder, upload, options) => presignUpload(store, upload, options),

    async mount(folder, path) {
      return { type: 's3', bucket: bucket.name, prefix: keys.folder(folder) + (path ?? '') }
    },

    trash: (folder) => keys.trashOf(folder),

    readIdentity: (call) => readIdentity(store, call),

    writeIdentity: (text, call) => writeIdentity(store, text, call),

    listFolders: (options) => listFolders(store, options),

    async close() {
      bucket.client.destroy()
      bucket.patient.destroy()
      presigner.close()
    },
  } satisfies Backend
}

export function openBackend(context: CreateContext<S3Options>): Backend {
  const { options, log, idleSeconds } = context
  const client = createClient(context, options.idleTimeoutSeconds)
  const patient = createClient(context, Math.max(options.idleTimeoutSeconds, options.copyTimeoutSeconds))
  const bucket = new Bucket(client, patient, options.bucket, options.commandsAtOnce)
  const keys = new Keys(options.prefix)
  const touchMilliseconds = Math.min(longestTouchMilliseconds, (idleSeconds * 1000) / touchesPerIdle)
  return createS3Backend({
    bucket,
    keys,
    buffers: new PartBuffers(options.partBytes, options.uploadBuffers),
    conditions: new Conditions({ bucket, keys, touchMilliseconds }, log),
    presigner: new Presigner(createPresigner(options), options.bucket, options.endpoint === undefined),
    copyPartBytes: options.copyPartBytes,
    touchMilliseconds,
    turns: new Turns(),
  })
}
