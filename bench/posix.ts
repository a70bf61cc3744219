import { createPosixBackend } from '../backends/posix/backend.ts'
import { Layout } from '../backends/posix/layout.ts'

const ownership = { uid: undefined, gid: undefined, fileMode: 0o644, directoryMode: 0o755, extended: false }

export const call = { signal: new AbortController().signal }

/** The posix backend by itself, on a directory. */
export async function posixIn(root: string) {
  const layout = await Layout.create(root)
  const backend = createPosixBackend(layout, ownership)
  return { backend, directoryOf: (folder: string) => layout.folder(folder) }
}
