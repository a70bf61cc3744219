import type { StatsFs } from 'node:fs'
import type { Backend } from '../backend.ts'
import { NoSpace, QuotaExceeded } from '../errors.ts'
import { statfs } from '../posix/compose.ts'

/**
 * Tells the limit of a vfolder from a full disk: for both the kernel says ENOSPC. In a directory of a project that has a
 * limit, XFS gives statfs(2) what is left of that.
 * @param root of the volume, which is in no project
 */
export function tellLimits(backend: Backend, root: string): Backend {
  const { copy, copyTree, clone, symlink, mount } = backend

  const tell = async <T>(folder: string, work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof NoSpace) || !(await hasReachedLimit(folder))) throw error
      throw new QuotaExceeded('the limit of the vfolder on the storage leaves no room for this', { cause: error })
    }
  }

  async function hasReachedLimit(folder: string): Promise<boolean> {
    const place = await mount?.call(backend, folder, undefined)
    if (place?.type !== 'path') return false
    return isTighter(await statfs(place.path), await statfs(root))
  }

  return {
    ...backend,
    write: (folder, path, source, options) => tell(folder, backend.write(folder, path, source, options)),
    beginUpload: (folder, upload, call) => tell(folder, backend.beginUpload(folder, upload, call)),
    appendUpload: (folder, upload, source, options) =>
      tell(folder, backend.appendUpload(folder, upload, source, options)),
    completeUpload: (folder, upload, path, options) =>
      tell(folder, backend.completeUpload(folder, upload, path, options)),
    mkdir: (folder, path, call) => tell(folder, backend.mkdir(folder, path, call)),
    move: (folder, from, to, options) => tell(options.toFolder ?? folder, backend.move(folder, from, to, options)),
    ...(copy && {
      copy: (folder, from, to, options) =>
        tell(options.toFolder ?? folder, copy.call(backend, folder, from, to, options)),
    }),
    ...(copyTree && {
      copyTree: (folder, from, to, options) =>
        tell(options.toFolder ?? folder, copyTree.call(backend, folder, from, to, options)),
    }),
    ...(clone && { clone: (from, to, options) => tell(to, clone.call(backend, from, to, options)) }),
    ...(symlink && {
      symlink: (folder, path, target, options) => tell(folder, symlink.call(backend, folder, path, target, options)),
    }),
  }
}

/** Whether a project has a limit that leaves it less than the disk has. */
function isTighter(project: StatsFs, disk: StatsFs): boolean {
  const inBytes = project.blocks < disk.blocks && project.bavail < disk.bavail
  const inFiles = project.files < disk.files && project.ffree < disk.ffree
  return inBytes || inFiles
}
