import type { Call, QuotaLimits, Usage } from '../backend.ts'
import { Unavailable } from '../errors.ts'
import { homeOf, type Layout, stagedAmount, translateErrors } from '../posix/compose.ts'
import { btrfs } from './program.ts'

/** A line of `btrfs qgroup show --raw`: the ID, which begins with the level 0 of subvolumes, and the referenced bytes. */
const line = /^0\/\d+\s+(\d+)\s/m

/** @throws when the filesystem has no quota groups, which only root should turn on, for all that is on it */
export async function requireQuotaGroups({ root }: Layout, call: Call): Promise<void> {
  await btrfs(['qgroup', 'show', root], call).catch((cause) => {
    const reason = cause instanceof Error ? cause.message : String(cause)
    const how = '`btrfs quota enable` turns them on, and the service must be root'
    throw new Error(`root must be on Btrfs with quota groups: ${how} (${reason})`, { cause })
  })
}

/** Btrfs counts no files, so their limit is the service's. */
export async function limit(layout: Layout, folder: string, { bytes }: QuotaLimits, call: Call): Promise<void> {
  const home = homeOf(layout.folder(folder))
  const limit = bytes === null ? 'none' : String(bytes)
  await translateErrors('the vfolder', async () => {
    const id = (await btrfs(['inspect-internal', 'rootid', home], call)).trim()
    // By the ID, since a subvolume that is over its limit takes no new one for itself.
    await btrfs(['qgroup', 'limit', limit, `0/${id}`, layout.root], call)
  })
}

/**
 * The bytes that it refers to, shared with a clone or not, without those that are on their way into it. They are exact
 * as of a commit, so there is one first.
 */
export async function usage(layout: Layout, folder: string, call: Call): Promise<Usage> {
  const root = layout.folder(folder)
  const home = homeOf(root)
  const shown = await translateErrors('the vfolder', () =>
    btrfs(['qgroup', 'show', '--raw', '--sync', '-f', home], call),
  )
  const bytes = line.exec(shown)?.[1]
  if (bytes === undefined) throw new Unavailable('the quota group of the vfolder is missing')
  return { bytes: Math.max(0, Number(bytes) - (await stagedAmount(root)).bytes) }
}
