import { entriesOf } from './directories.ts'

/** So many names of one directory are in memory at a time. */
export const mostNames = 4096

/** The subdirectories that are found in a directory. Of more than are kept, it is read again as they are worked through. */
export class Subdirectories {
  #names: string[] = []
  #areMany = false

  add(name: string): void {
    if (this.#areMany) return
    this.#names.push(name)
    if (this.#names.length <= mostNames) return
    this.#areMany = true
    this.#names = []
  }

  in(fd: number, { isNfs = false } = {}): Iterable<string> {
    return this.#areMany ? readAgain(fd, isNfs) : this.#names
  }
}

function* readAgain(fd: number, isNfs: boolean): Generator<string> {
  for (const entry of entriesOf(fd, { isNfs })) if (entry.isDirectory()) yield entry.name
}
