/** The file ID and a counter, as the Linux client names them (fs/nfs/unlink.c). */
const silly = /^\.nfs[0-9a-f]{24}$/

/**
 * Whether a client of NFS keeps under this name a file that was removed or replaced while it is open there. It goes with
 * the last close, and is no entry.
 */
export function isSilly(name: string): boolean {
  return silly.test(name)
}
