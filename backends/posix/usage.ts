import type { Amount, Call } from '../backend.ts'
import { runTask } from './bulk/task.ts'
import { openDirectory } from './directory.ts'
import type { Layout } from './layout.ts'

export async function folderUsage(layout: Layout, folder: string, { signal }: Call): Promise<Amount> {
  const directory = await openDirectory(layout.folder(folder), [])
  try {
    const { files, bytes } = await runTask({ kind: 'usage' }, { fds: [directory.fd], base: '' }, { signal })
    return { files, bytes }
  } finally {
    directory.close()
  }
}
