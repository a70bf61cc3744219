import { basename, dirname } from 'node:path'
import type { Amount, Call, QuotaLimits, Usage } from '../backend.ts'
import { ToolFailed } from '../errors.ts'
import {
  access,
  homeOf,
  type Layout,
  mkdir,
  type Parts,
  readdir,
  removeTrees,
  stagedAmount,
  translateErrors,
} from '../posix/compose.ts'
import type { Projects } from './projects.ts'
import type { XfsQuota } from './xfs-quota.ts'

/** The directories of a new vfolder that are no users': itself, `files`, `staging` and `uploads`. */
const ownInodes = 4
/** A file that replaces another one is an inode more until it does. */
const spareInodes = 16

/** What project quotas give: each vfolder is a project, whose limits the kernel keeps and whose inodes and blocks it counts. */
export function projectParts(layout: Layout, tool: XfsQuota, projects: Projects) {
  const ofFolder = async (folder: string, call: Call) => {
    const home = homeOf(layout.folder(folder))
    await translateErrors('the vfolder', () => access(home))
    return { home, project: await projects.of(folder, call) }
  }

  async function usage(folder: string, call: Call): Promise<Usage> {
    const { home, project } = await ofFolder(folder, call)
    const { quota, isOfProject } = await tool.look(project, home, call)
    if (quota === undefined) throw new ToolFailed('the filesystem counts no projects: it is mounted without prjquota')
    if (!isOfProject) {
      await projects.restore(project, home, call)
      return usage(folder, call)
    }
    const staged = await stagedAmount(layout.folder(folder))
    // There is one more once something was deleted into the trash.
    const ownDirectories = 1 + (await translateErrors('the vfolder', () => readdir(home))).length
    return {
      bytes: Math.max(0, quota.bytes - staged.bytes),
      files: Math.max(0, quota.inodes - ownDirectories - staged.files),
    }
  }

  return {
    usage,

    homes: {
      async make(home: string, call: Call): Promise<void> {
        const isNew = await makeDirectory(home)
        const project = await projects.of(basename(home), call)
        if (isNew) await tool.give(project, home, call)
        else if (!(await tool.look(project, home, call)).isOfProject) await projects.restore(project, home, call)
      },

      async free(home: string, call: Call & { onProgress?: (done: Amount) => void }): Promise<void> {
        await removeTrees(dirname(home), [basename(home)], { ...call, called: '' })
        await projects.forget(basename(home).replace(/\..*/, ''), call)
      },
    },

    async quota(folder: string, { bytes, files }: QuotaLimits, call: Call): Promise<void> {
      const { home, project } = await ofFolder(folder, call)
      const inodes = files === null ? null : files + ownInodes + spareInodes
      const isOfProject = await tool.limit(project, { bytes, files: inodes }, home, call)
      if (!isOfProject) await projects.restore(project, home, call)
    },
  } satisfies Parts
}

/** @returns whether it was not there */
async function makeDirectory(directory: string): Promise<boolean> {
  try {
    await mkdir(directory)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}
