export type Packable = string | number

/** Encodes a list as MessagePack (msgpack.org): of texts, and of numbers as 64-bit floats where they are no small integers. */
export function pack(items: Packable[]): Buffer {
  return Buffer.concat([head(items.length, { fix: 0x90, most: 15, two: 0xdc, four: 0xdd }), ...items.map(packOne)])
}

function packOne(item: Packable): Buffer {
  if (typeof item === 'number') return packNumber(item)
  const text = Buffer.from(item)
  return Buffer.concat([head(text.length, { fix: 0xa0, most: 31, one: 0xd9, two: 0xda, four: 0xdb }), text])
}

function packNumber(number: number): Buffer {
  if (Number.isInteger(number) && number >= 0 && number < 2 ** 32) {
    return head(number, { fix: 0, most: 127, one: 0xcc, two: 0xcd, four: 0xce })
  }
  const bytes = Buffer.alloc(9)
  bytes[0] = 0xcb
  bytes.writeDoubleBE(number, 1)
  return bytes
}

interface Heads {
  /** What a number up to `most` is added to, in one byte. */
  fix: number
  most: number
  /** The bytes before a number that takes so many more. */
  one?: number
  two: number
  four: number
}

function head(number: number, { fix, most, one, two, four }: Heads): Buffer {
  if (number <= most) return Buffer.of(fix + number)
  if (one !== undefined && number < 2 ** 8) return Buffer.of(one, number)
  const bytes = Buffer.alloc(number < 2 ** 16 ? 3 : 5)
  bytes[0] = number < 2 ** 16 ? two : four
  bytes.writeUIntBE(number, 1, bytes.length - 1)
  return bytes
}
