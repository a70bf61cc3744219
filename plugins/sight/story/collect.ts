import { type LogLine, parseLine, textLines, timeIn } from './lines.ts'

/** A line of another program, such as the S3 server's, that names a request of the story. */
export interface ForeignLine {
  time: number
  file: string
  text: string
}

export interface Collected {
  /** In order of time. */
  lines: LogLine[]
  foreign: ForeignLine[]
  /** Lines that belong to the story and are left out, since it has too many. */
  omitted: number
}

/** More than anybody reads; what happens first says the most. */
const mostLines = 100_000

/**
 * Finds what logs have of a request ID and of what it led to: its own lines and those of its jobs, of requests that opened
 * URLs signed under it, and lines of other programs that have its ID, or the one that the S3 server gave to one of its
 * commands. Each file is read twice, line by line, since one process may tell early what another tells late.
 */
export async function collect(id: string, files: string[]): Promise<Collected> {
  const story = new Membership(id)
  for (const file of files) {
    for await (const text of textLines(file)) {
      const line = parseLine(text)
      if (line !== undefined) story.learn(line)
    }
  }
  const collected: Collected = { lines: [], foreign: [], omitted: 0 }
  for (const file of files) {
    for await (const text of textLines(file)) add(collected, story, file, text)
  }
  collected.lines.sort((one, other) => one.time - other.time)
  collected.foreign.sort((one, other) => one.time - other.time)
  return collected
}

function add(collected: Collected, story: Membership, file: string, text: string): void {
  const line = parseLine(text)
  const belongs = line === undefined ? story.namedIn(text) : story.has(line)
  if (!belongs) return
  if (collected.lines.length + collected.foreign.length >= mostLines) collected.omitted++
  else if (line !== undefined) collected.lines.push(line)
  else collected.foreign.push({ time: timeIn(text) ?? story.timeOf(text) ?? 0, file, text })
}

/** Which lines belong to a story. */
class Membership {
  readonly #id: string
  /** Of requests that opened what was signed under the ID. */
  readonly #opened = new Set<string>()
  /** When the S3 server's own IDs were told of. */
  readonly #s3 = new Map<string, number>()

  constructor(id: string) {
    this.#id = id
  }

  learn(line: LogLine): void {
    if (line.origin_request_id === this.#id) this.#opened.add(line.request_id)
    if (line.s3_request_id !== undefined && this.has(line)) this.#s3.set(line.s3_request_id, line.time)
  }

  has({ request_id, origin_request_id }: LogLine): boolean {
    if (request_id === this.#id || origin_request_id === this.#id) return true
    // Before its token is verified a request has its own ID only.
    return origin_request_id === undefined && this.#opened.has(request_id)
  }

  namedIn(text: string): boolean {
    return wordsOf(text).some((word) => word === this.#id || this.#s3.has(word))
  }

  timeOf(text: string): number | undefined {
    const known = wordsOf(text).find((word) => this.#s3.has(word))
    return known === undefined ? undefined : this.#s3.get(known)
  }
}

/** What may be an ID: the characters that a request ID may have, and those of AWS. */
function wordsOf(text: string): string[] {
  return text.split(/[^\w.:+/=-]+|\w+=(?=tx)/)
}
