import type { OpenFile } from '../../backend.ts'
import { SourceChanged, Unavailable, Unconfirmed } from '../../errors.ts'
import { errnoOf } from '../errno.ts'

/** Whether a server does not know a handle any more, such as after its restart. Nothing was changed, then. */
export function isStale(error: unknown): boolean {
  return error instanceof Unavailable && !(error instanceof Unconfirmed) && errnoOf(error.cause) === 'ESTALE'
}

/** A file that is read on through a fresh handle when its own is stale, once, and where that leads to the same bytes. */
export function reopening(file: OpenFile, reopen: () => Promise<OpenFile>): OpenFile {
  let current = file

  async function* chunks({ start, end }: { start: number; end: number }): AsyncGenerator<Buffer> {
    let position = start
    try {
      for await (const chunk of current.chunks({ start, end })) {
        position += chunk.length
        yield chunk
      }
      return
    } catch (error) {
      if (!isStale(error) || current !== file) throw error
    }
    const fresh = await reopen()
    const { etag, path } = file.entry
    current.close()
    current = fresh
    if (fresh.entry.etag !== etag) throw new SourceChanged(`${path} was replaced while it was read`)
    yield* current.chunks({ start: position, end })
  }

  return { ...file, chunks, close: () => current.close() }
}
