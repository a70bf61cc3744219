import type { Row } from '../row.ts'
import { measureSwitched } from './switched.ts'

export const metrics: Row = {
  name: 'metrics',
  what: 'signed downloads of 4 KiB with metrics, against METRICS=off, in files per second of the processor',
  bound: { atLeast: 0.97 },
  measure: (bench) => measureSwitched(bench, 'METRICS'),
}
