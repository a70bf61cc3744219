import type { Amount, Call } from '../backend.ts'
import { encoding } from './bulk/directories.ts'
import { runTask } from './bulk/task.ts'
import { openDirectory } from './directory.ts'
import { kernelPathOf } from './inside.ts'
import type { Layout } from './layout.ts'

export async function countFolder(layout: Layout, folder: string, { signal }: Call): Promise<Amount> {
  const root = layout.folder(folder)
  const directory = await openDirectory(root, [])
  try {
    const { files, bytes } = await runTask(
      { kind: 'usage', root: Buffer.from(kernelPathOf(root)).toString(encoding), isNfs: layout.isNfs },
      { fds: [directory.fd], base: '' },
      { signal },
    )
    return { files, bytes }
  } finally {
    directory.close()
  }
}
