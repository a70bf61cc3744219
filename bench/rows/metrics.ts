import type { Row } from '../row.ts'
import { compareVariants } from '../variants.ts'

export const metrics: Row = {
  name: 'metrics',
  what: 'signed downloads of 4 KiB with metrics, against METRICS=off, in files per second of the processor',
  bound: { atLeast: 0.97 },
  measure: (bench) => compareVariants(bench, { ours: { METRICS: 'on' }, peer: { METRICS: 'off' } }),
}
