import type { Call, QuotaLimits, Usage } from '../backend.ts'
import { homeOf, type Layout, shareOf, translateErrors } from '../posix/compose.ts'
import { runProgram } from '../program.ts'

// Quotas and counts of CephFS are extended attributes of directories, for which Node has no calls; setfattr and getfattr
// of Debian's package attr make one each.

/**
 * How long the servers may take to tell a directory of what changed far below it: measured 5 seconds, and longer where
 * they are busy.
 */
export const usageDelaySeconds = 10

/**
 * A limit of files also counts the directories: that of the vfolder, its three places, and one more entry, since a file
 * is there twice while it replaces another one.
 */
const ownEntries = 5

const timeoutSeconds = 60

/** @throws when it is something else, where nothing would keep a limit */
export async function requireCephfs({ root }: Layout, call: Call): Promise<void> {
  await read(root, 'ceph.dir.rbytes', call).catch((cause) => {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`root must be on CephFS (${reason})`, { cause })
  })
}

export async function limit(layout: Layout, folder: string, { bytes, files }: QuotaLimits, call: Call): Promise<void> {
  const home = homeOf(layout.folder(folder))
  await translateErrors('the vfolder', async () => {
    // 0 is no limit, so that of no bytes is one byte.
    await write(home, 'ceph.quota.max_bytes', bytes === null ? 0 : Math.max(1, bytes), call)
    await write(home, 'ceph.quota.max_files', files === null ? 0 : files + ownEntries, call)
  })
}

/** Of the entries alone, and as a listing would count them. */
export async function usage(layout: Layout, folder: string, call: Call): Promise<Usage> {
  const root = layout.folder(folder)
  const [bytes, files] = await translateErrors('the vfolder', () =>
    Promise.all([read(root, 'ceph.dir.rbytes', call), read(root, 'ceph.dir.rfiles', call)]),
  )
  return { bytes, files }
}

async function read(directory: string, name: string, { signal }: Call): Promise<number> {
  const args = ['--only-values', '--absolute-names', '-n', name, '--', directory]
  return Number(await runProgram('getfattr', args, { signal, timeoutSeconds, share: shareOf(directory) }))
}

async function write(directory: string, name: string, value: number, { signal }: Call): Promise<void> {
  const args = ['-n', name, '-v', String(value), '--', directory]
  await runProgram('setfattr', args, { signal, timeoutSeconds, share: shareOf(directory) })
}
