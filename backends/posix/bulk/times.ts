/** Node sets and tells times as numbers of 53 bits, which is not to the nanosecond. */
const precisionMilliseconds = 0.001

export function isSameTime(a: number, b: number): boolean {
  return Math.abs(a - b) < precisionMilliseconds
}
