import { Readable } from 'node:stream'
import type { Entry } from '../../backends/backend.ts'

/** An object with one list, bit by bit: a directory may have more entries than memory is to hold. */
export function jsonList(name: string, listing: AsyncIterable<Entry[]>, toItem: (entry: Entry) => object): Readable {
  async function* text(): AsyncGenerator<string> {
    let before = `{"${name}": [`
    for await (const entries of listing) {
      if (entries.length === 0) continue
      yield before + entries.map((entry) => JSON.stringify(toItem(entry))).join(',')
      before = ','
    }
    yield before === ',' ? ']}' : `${before}]}`
  }
  return Readable.from(text(), { objectMode: false, highWaterMark: 256 * 1024 })
}
