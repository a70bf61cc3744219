import {
  type AppendOptions,
  type CompleteOptions,
  type OpenFile,
  UploadNotFound,
  type Written,
} from 'storage-proxy/backend'
import { ifPresent, translated } from './errors.ts'
import { pieceKey, uploadKey } from './keys.ts'
import { openObject } from './read.ts'
import type { Store } from './store.ts'
import { writeFile, writeObject } from './write.ts'

/** What one call of `appendUpload` stored. */
interface Piece {
  start: number
  end: number
}

export async function beginUpload({ operator }: Store, upload: string): Promise<void> {
  await translated('the upload', () => operator.createDir(uploadKey(upload)))
}

export async function appendUpload(
  store: Store,
  upload: string,
  source: AsyncIterable<Buffer>,
  { offset, signal }: AppendOptions,
): Promise<number> {
  const pieces = await listPieces(store, upload)
  const { operator } = store
  // From the end on, so that there is no gap whenever this ends.
  for (const { start } of pieces.filter(({ start }) => start >= offset).reverse()) {
    await translated('the upload', () => operator.delete(pieceKey(upload, start)))
  }
  const cut = pieces.find(({ start, end }) => start < offset && end > offset)
  if (cut !== undefined) {
    const before = readPieces(store, upload, [cut], { start: cut.start, end: offset })
    await writeObject(store, pieceKey(upload, cut.start), before, { signal })
  }
  const bytes = await writeObject(store, pieceKey(upload, offset), source, { signal })
  return offset + bytes
}

export async function readUpload(store: Store, upload: string): Promise<OpenFile> {
  const pieces = await listPieces(store, upload)
  return {
    entry: { path: upload, type: 'file', size: pieces.at(-1)?.end ?? 0, modifiedAt: new Date() },
    chunks: (range) => readPieces(store, upload, pieces, range),
    close() {},
  }
}

/** OpenDAL joins no objects, so the bytes pass through this process once more. */
export async function completeUpload(
  store: Store,
  folder: string,
  upload: string,
  path: string,
  { size, ...options }: CompleteOptions,
): Promise<Written> {
  const source = readPieces(store, upload, await listPieces(store, upload), { start: 0, end: size })
  const written = await writeFile(store, folder, path, source, { ...options, size })
  await abortUpload(store, upload)
  return written
}

export async function abortUpload({ operator }: Store, upload: string): Promise<void> {
  await translated('the upload', async () => {
    const listed = (await ifPresent(operator.list(uploadKey(upload)))) ?? []
    for (const entry of listed) if (entry.path() !== uploadKey(upload)) await operator.delete(entry.path())
    await operator.delete(uploadKey(upload))
  })
}

async function listPieces({ operator }: Store, upload: string): Promise<Piece[]> {
  return translated('the upload', async () => {
    if ((await ifPresent(operator.stat(uploadKey(upload)))) === undefined) {
      throw new UploadNotFound(`there is no upload ${upload}`)
    }
    const keys = (await operator.list(uploadKey(upload))).map((entry) => entry.path())
    const pieces = keys
      .filter((key) => key !== uploadKey(upload))
      .map(async (key) => {
        const start = Number(key.slice(uploadKey(upload).length))
        return { start, end: start + Number((await operator.stat(key)).contentLength) }
      })
    return (await Promise.all(pieces)).sort((a, b) => a.start - b.start)
  })
}

async function* readPieces(
  store: Store,
  upload: string,
  pieces: Piece[],
  { start, end }: { start: number; end: number },
): AsyncGenerator<Buffer> {
  for (const piece of pieces) {
    const from = Math.max(start, piece.start)
    const to = Math.min(end, piece.end)
    if (from >= to) continue
    const key = pieceKey(upload, piece.start)
    const metadata = await translated('the upload', () => store.operator.stat(key))
    const entry = { path: upload, type: 'file', size: piece.end - piece.start, modifiedAt: new Date() } as const
    yield* openObject(store, key, entry, metadata).chunks({ start: from - piece.start, end: to - piece.start })
  }
}
