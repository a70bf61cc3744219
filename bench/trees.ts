import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const filesPerDirectory = 1000

/** A tree of files of `bytes`, a thousand in a directory. */
export function treeOf(root: string, files: number, bytes: number): void {
  const content = Buffer.alloc(bytes, 'x')
  for (let first = 0; first < files; first += filesPerDirectory) {
    const directory = join(root, `directory-${first / filesPerDirectory}`)
    mkdirSync(directory, { recursive: true })
    for (let file = 0; file < filesPerDirectory; file++) writeFileSync(join(directory, `file-${file}`), content)
  }
}
