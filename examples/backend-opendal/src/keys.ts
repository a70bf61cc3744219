/**
 * Where things are below the root of the operator:
 *
 *     folders/ID/PATH        the entries of a vfolder; directories are markers that end in `/`
 *     uploads/ID/OFFSET      the pieces of a resumable upload, by where they begin
 *     staging/ID             files being written, where a rename publishes them
 */
export const staging = 'staging/'

/** A directory's key ends in `/`; without a path that of the vfolder itself. */
export function directoryKey(folder: string, path?: string): string {
  return path === undefined ? `folders/${folder}/` : `${fileKey(folder, path)}/`
}

export function fileKey(folder: string, path: string): string {
  return `folders/${folder}/${path.split('/').map(toKeyName).join('/')}`
}

export function uploadKey(upload: string): string {
  return `uploads/${upload}/`
}

export function pieceKey(upload: string, offset: number): string {
  return uploadKey(upload) + String(offset).padStart(16, '0')
}

/**
 * What OpenDAL does not keep, white space at the end of a key, backslashes, and for Azure `%`, stands in keys as `~` and
 * its bytes in hexadecimal, and so does `~`.
 */
function toKeyName(name: string): string {
  return name.replace(/[%\\~]|\p{White_Space}$/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `~${byte.toString(16).padStart(2, '0')}`).join(''),
  )
}

export function fromKeyName(name: string): string {
  return name.replace(/(?:~[0-9a-f]{2})+/g, (run) => Buffer.from(run.replaceAll('~', ''), 'hex').toString())
}

/** The path of every directory that leads to an entry, the nearest first. */
export function ancestors(path: string): string[] {
  const names = path.split('/').slice(0, -1)
  return names.map((_, depth) => names.slice(0, depth + 1).join('/')).reverse()
}
