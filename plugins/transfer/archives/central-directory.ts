import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { centralHeader, endOfDirectory, type ZipRecord } from './zip-records.ts'

const blockBytes = 256 * 1024

/**
 * The headers that a zip ends with, kept until then. Each takes about a hundred bytes; sorted names have much in
 * common, so they are compressed, block by block, to about a fifth.
 */
export class CentralDirectory {
  readonly #blocks: Buffer[] = []
  #filling = Buffer.allocUnsafeSlow(blockBytes)
  #length = 0
  #count = 0
  #size = 0

  add(record: ZipRecord): void {
    const header = centralHeader(record)
    if (this.#length + header.length > blockBytes) this.#closeBlock()
    this.#length += header.copy(this.#filling, this.#length)
    this.#count++
    this.#size += header.length
  }

  #closeBlock(): void {
    this.#blocks.push(zstdCompressSync(this.#filling.subarray(0, this.#length), { pledgedSrcSize: this.#length }))
    this.#length = 0
  }

  /** The headers, and what follows them, when they stand at `offset`; each is valid until the next one is asked for. */
  *encode(offset: number): Generator<Buffer> {
    for (const block of this.#blocks) {
      const headers = zstdDecompressSync(block, { chunkSize: blockBytes })
      yield headers
      // Frees it at once, before tens of MiB of such garbage pile up.
      headers.buffer.transfer(0)
    }
    const end = endOfDirectory({ count: this.#count, offset, size: this.#size })
    yield Buffer.concat([this.#filling.subarray(0, this.#length), end])
  }
}
