import fs from 'node:fs'
import { dirname } from 'node:path'
import type { AppendOptions, CompleteOptions, Written } from '../backend.ts'
import { UploadNotFound } from '../errors.ts'
import { openDirectory } from './directory.ts'
import { errnoOf, translateErrors, translateErrorsOf } from './errno.ts'
import { close, fstat, fsync, ftruncate, open, removeFile } from './files.ts'
import type { Layout, Place } from './layout.ts'
import { publish } from './publish.ts'
import { translateStaging } from './staging.ts'
import { store } from './store.ts'

const { O_CREAT, O_NOFOLLOW, O_RDONLY, O_RDWR } = fs.constants

export async function beginUpload(layout: Layout, folder: string, upload: string): Promise<void> {
  const place = layout.upload(folder, upload)
  await translateStaging(layout.folder(folder), `the upload ${upload}`, async () => {
    close(await open(place, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600))
    const uploads = await openDirectory(dirname(place), [])
    try {
      await uploads.sync()
    } finally {
      uploads.close()
    }
  })
}

export async function openUpload(layout: Layout, folder: string, upload: string, flags = O_RDONLY): Promise<number> {
  return translateErrorsOf(`the upload ${upload}`, () =>
    open(layout.upload(folder, upload), flags | O_NOFOLLOW).catch((cause) => {
      if (errnoOf(cause) === 'ENOENT') throw new UploadNotFound(`there is no upload ${upload}`, { cause })
      throw cause
    }),
  )
}

/**
 * A call that was given up on a mount that hangs may still write when the mount answers again, so whoever goes on with
 * the upload waits until it has ended.
 */
function inTurn<T>(layout: Layout, upload: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const place = { root: layout.uploads, names: [upload] }
  return layout.inTurn([place], { signal }, () => translateErrors(`the upload ${upload}`, work))
}

export async function appendUpload(
  layout: Layout,
  folder: string,
  upload: string,
  source: AsyncIterable<Buffer>,
  { offset, signal, onDurable }: AppendOptions,
): Promise<number> {
  return inTurn(layout, upload, signal, async () => {
    const fd = await openUpload(layout, folder, upload, O_RDWR)
    try {
      // The bytes behind were never reported: their call did not come to its end.
      if ((await fstat(fd)).size > offset) await ftruncate(fd, offset)
      const stored = await store(fd, source, { position: offset, signal, ...(onDurable && { onDurable }) })
      await fsync(fd)
      return offset + stored
    } finally {
      close(fd)
    }
  })
}

export async function completeUpload(
  place: Place,
  folder: string,
  upload: string,
  options: CompleteOptions,
): Promise<Written> {
  const { size, ...publishing } = options
  return inTurn(place.layout, upload, options.signal, async () => {
    const fd = await openUpload(place.layout, folder, upload, O_RDWR)
    try {
      if ((await fstat(fd)).size > size) await ftruncate(fd, size)
      const staged = place.layout.upload(folder, upload)
      return await translateErrors(place.names.join('/'), () => publish(place, staged, fd, publishing))
    } finally {
      close(fd)
    }
  })
}

export async function abortUpload(layout: Layout, folder: string, upload: string): Promise<void> {
  await translateErrorsOf(`the upload ${upload}`, () => removeFile(layout.upload(folder, upload)))
}
