import type { Readable } from 'node:stream'
import type { DestinationStream } from 'pino'

/** Hands on whole lines. What a process that was killed had written of its last one is left out. */
export function relayLines(from: Readable, to: DestinationStream): void {
  let rest = ''
  from.setEncoding('utf8').on('data', (text: string) => {
    const end = text.lastIndexOf('\n') + 1
    if (end > 0) to.write(rest + text.slice(0, end))
    rest = end > 0 ? text.slice(end) : rest + text
  })
}
