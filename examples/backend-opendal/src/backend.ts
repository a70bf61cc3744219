import type { Backend } from 'storage-proxy/backend'
import { collectGarbage, copy, mkdir, move, remove, removeTree } from './changes.ts'
import { getEntry, listEntries } from './entries.ts'
import { translated } from './errors.ts'
import { directoryKey } from './keys.ts'
import { openFile } from './read.ts'
import type { Store } from './store.ts'
import { abortUpload, appendUpload, beginUpload, completeUpload, readUpload } from './upload.ts'
import { writeFile } from './write.ts'

/** OpenDAL takes no signal: an abort is noticed between its calls. */
export function createOpendalBackend(store: Store): Backend {
  return {
    limits: Object.freeze({ maxFileBytes: store.maxFileBytes }),

    createFolder: (folder) => translated('the vfolder', () => store.operator.createDir(directoryKey(folder))),

    async removeFolder(folder, options) {
      await removeTree(store, folder, undefined, options)
    },

    stat: (folder, path) => getEntry(store, folder, path),

    list: (folder, options) => listEntries(store, folder, options),

    read: (folder, path) => openFile(store, folder, path),

    write: (folder, path, source, options) => writeFile(store, folder, path, source, options),

    beginUpload: (_folder, upload) => beginUpload(store, upload),

    appendUpload: (_folder, upload, source, options) => appendUpload(store, upload, source, options),

    readUpload: (_folder, upload) => readUpload(store, upload),

    completeUpload: (folder, upload, path, options) => completeUpload(store, folder, upload, path, options),

    abortUpload: (_folder, upload) => abortUpload(store, upload),

    mkdir: (folder, path) => mkdir(store, folder, path),

    move: (folder, from, to, options) => move(store, folder, from, to, options),

    remove: (folder, path, options) => remove(store, folder, path, options),

    collectGarbage: (options) => collectGarbage(store, options),

    health: () => translated('the root', () => store.operator.check()),

    async close() {},

    copy: (folder, from, to, options) => copy(store, folder, from, to, options),
  }
}
