import type { Backend, Entry, ListOptions } from '../../backends/backend.ts'
import { hasCapability } from '../../backends/capabilities.ts'

/** Lists many entries at a time where the storage can, and lets through only what the pattern matches. */
export async function* listMany(backend: Backend, folder: string, options: ListOptions): AsyncGenerator<Entry[]> {
  const { path = '', pattern } = options
  const top = path === '' ? 0 : path.length + 1
  const matching = pattern === undefined ? undefined : (entry: Entry) => pattern.matches(entry.path.slice(top))
  for await (const entries of readMany(backend, folder, options)) {
    const found = matching === undefined ? entries : entries.filter(matching)
    if (found.length > 0) yield found
  }
}

async function* readMany(backend: Backend, folder: string, options: ListOptions): AsyncGenerator<Entry[]> {
  if (hasCapability(backend, 'listMany')) yield* backend.listMany(folder, options)
  else for await (const entry of backend.list(folder, options)) yield [entry]
}
