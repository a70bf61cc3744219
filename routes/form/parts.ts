import { Problem } from '../../lib/problems.ts'

const endOfHead = '\r\n\r\n'
export const longestHead = 80 * 1024

export interface Part {
  /** What stands before the content, one character for each byte; undefined when it has no end or is too long. */
  head: string | undefined
  /** Where in the body the content begins. */
  start: number
  /** What is not read of it is passed over when the next part is asked for. */
  content: AsyncGenerator<Buffer>
}

/** The parts of a form as they come (RFC 2046, section 5.1.1); nothing of one is kept. An empty body has none. */
export async function* readParts(body: AsyncGenerator<Buffer>, boundary: string): AsyncGenerator<Part> {
  const delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1')
  const bytes = scan(body)
  try {
    if (!(await bytes.receive())) return
    await passOver(bytes.until(delimiter))
    while ((await bytes.peek(2)) !== '--') {
      const begin = bytes.position()
      const part = bytes.until(delimiter)
      const { head, rest } = await takeHead(part)
      const content = joined(rest, part)
      yield { head, start: begin + (head?.length ?? 0) + endOfHead.length, content }
      await passOver(content)
    }
  } finally {
    // Not awaited: it may still wait for bytes that do not come any more.
    body.return(undefined).catch(() => {})
  }
}

/** Takes bytes from a body, up to a mark each time. A chunk is valid until the next one is asked for. */
function scan(body: AsyncGenerator<Buffer>) {
  // The first delimiter may stand at the very beginning, without a line break before it.
  let held: Buffer = Buffer.from('\r\n')
  let received = 0

  /** Gives false at the end of the body. */
  const receive = async (): Promise<boolean> => {
    // The memory of what is held is used again for the next bytes.
    const kept = Buffer.from(held)
    const { done, value } = await body.next()
    if (done) return false
    received += value.length
    held = kept.length === 0 ? value : Buffer.concat([kept, value])
    return true
  }
  const receiveMore = async (): Promise<void> => {
    if (!(await receive())) throw new Problem('malformed_multipart', 'The form ends before its last delimiter.')
  }
  const take = (bytes: number): Buffer => {
    // A chunk that is passed on as a whole stays the same object, whose memory may be taken.
    const taken = bytes === held.length ? held : held.subarray(0, bytes)
    held = bytes === held.length ? Buffer.alloc(0) : held.subarray(bytes)
    return taken
  }

  return {
    receive,
    position: () => received - held.length,

    async peek(bytes: number): Promise<string> {
      while (held.length < bytes) await receiveMore()
      return held.toString('latin1', 0, bytes)
    },

    /** What comes before the mark, which is passed over. */
    async *until(mark: Buffer): AsyncGenerator<Buffer> {
      for (;;) {
        const at = held.indexOf(mark)
        const before = take(at >= 0 ? at : beginOf(mark, held))
        if (at >= 0) take(mark.length)
        if (before.length > 0) yield before
        if (at >= 0) return
        await receiveMore()
      }
    },
  }
}

/** Where the mark begins whose end does not lie in these bytes any more; their length when it does not. */
function beginOf(mark: Buffer, bytes: Buffer): number {
  const [first = 0] = mark
  let at = bytes.indexOf(first, Math.max(0, bytes.length - mark.length + 1))
  while (at >= 0 && !bytes.subarray(at).equals(mark.subarray(0, bytes.length - at))) at = bytes.indexOf(first, at + 1)
  return at >= 0 ? at : bytes.length
}

/** Takes the head off a part. */
async function takeHead(part: AsyncGenerator<Buffer>): Promise<{ head: string | undefined; rest: Buffer | undefined }> {
  let text = ''
  for (;;) {
    const { done, value } = await part.next()
    if (done) return { head: undefined, rest: undefined }
    const before = text.length
    text += value.toString('latin1', 0, longestHead + endOfHead.length)
    const end = text.indexOf(endOfHead, Math.max(0, before - endOfHead.length))
    if (end >= 0 && end <= longestHead)
      return { head: text.slice(0, end), rest: value.subarray(end + endOfHead.length - before) }
    if (text.length > longestHead) return { head: undefined, rest: undefined }
  }
}

async function* joined(first: Buffer | undefined, others: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  if (first !== undefined && first.length > 0) yield first
  yield* others
}

async function passOver(bytes: AsyncGenerator<Buffer>): Promise<void> {
  for await (const _ of bytes);
}
