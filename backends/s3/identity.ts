import type { Call } from '../backend.ts'
import { NotFound, PreconditionFailed, Unavailable } from '../errors.ts'
import type { Store } from './store.ts'

const attempts = 3

export async function readIdentity({ bucket, keys }: Store, call: Call): Promise<string | undefined> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const object = await bucket.head(keys.identity, call)
    if (object === undefined) return undefined
    if (object.size === 0) return ''
    try {
      const chunks: Buffer[] = []
      for await (const chunk of await bucket.get(object, { start: 0, end: object.size }, call)) chunks.push(chunk)
      return Buffer.concat(chunks).toString()
    } catch (error) {
      // Another process has just written it anew.
      if (!(error instanceof PreconditionFailed || error instanceof NotFound)) throw error
    }
  }
  throw new Unavailable('the identity of the volume changes all the time')
}

export async function writeIdentity({ bucket, keys }: Store, text: string, { signal }: Call): Promise<void> {
  await bucket.put(keys.identity, Buffer.from(text), { signal })
}

/** In byte order. */
export async function* listFolders(
  { bucket, keys }: Store,
  { after, signal }: Call & { after?: string },
): AsyncGenerator<string> {
  const listing = { prefix: keys.vfolders, delimiter: '/', signal }
  // After all keys of that vfolder, of which U+10FFFF begins none.
  let from: { after?: string; token?: string } = after === undefined ? {} : { after: `${keys.folder(after)}\u{10ffff}` }
  for (;;) {
    const { prefixes, next } = await bucket.page({ ...listing, ...from })
    for (const prefix of prefixes) {
      const id = prefix.slice(keys.vfolders.length, -1)
      if (id !== after) yield id
    }
    if (next === undefined) return
    from = next
  }
}
