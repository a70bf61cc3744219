import type { Call } from '../backend.ts'
import type { Store } from './store.ts'

/** By GET alone: the refusal of a HEAD has no body that says why. */
export async function readIdentity({ bucket, keys }: Store, call: Call): Promise<string | undefined> {
  return (await bucket.read(keys.identity, call))?.toString()
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
