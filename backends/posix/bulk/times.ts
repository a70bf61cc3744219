/** Node sets and tells times as numbers of 53 bits, which is not to the nanosecond. */
const precisionMilliseconds = 0.001

/** Whether a copy has the time of its source, as far as the storage keeps it: servers of NFS may keep whole seconds. */
export function isSameTime(source: number, copy: number): boolean {
  return (
    Math.abs(source - copy) < precisionMilliseconds || (copy % 1000 === 0 && Math.floor(source / 1000) === copy / 1000)
  )
}
