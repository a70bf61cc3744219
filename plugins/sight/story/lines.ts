import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { createGunzip } from 'node:zlib'
import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'

/** What the service's own lines have at least; `time` is in milliseconds since 1970. */
export const LogLine = Type.Object({
  level: Type.Number(),
  time: Type.Number(),
  pid: Type.Number(),
  hostname: Type.String(),
  request_id: Type.String(),
  msg: Type.Optional(Type.String()),
  origin_request_id: Type.Optional(Type.String()),
  job_id: Type.Optional(Type.String()),
  s3_request_id: Type.Optional(Type.String()),
})
export type LogLine = Static<typeof LogLine> & Record<string, unknown>

const isLogLine = TypeCompiler.Compile(LogLine)

/** The lines of a file, which may be compressed by gzip, as rotated logs are. */
export async function* textLines(file: string): AsyncGenerator<string> {
  const bytes = createReadStream(file)
  const input = file.endsWith('.gz') ? bytes.pipe(createGunzip()) : bytes
  bytes.on('error', (error) => input.destroy(error))
  yield* createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })
}

/** @returns undefined for a line that is not the service's: another program's, or one that a crash cut */
export function parseLine(text: string): LogLine | undefined {
  // A cluster's logs are collected with something before them, such as the name of a container.
  const start = text.indexOf('{"level":')
  if (start < 0) return undefined
  try {
    const value: unknown = JSON.parse(text.slice(start))
    return isLogLine.Check(value) ? value : undefined
  } catch {
    return undefined
  }
}

const iso = /\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)/
/** As web servers write it (the "common log format"). */
const common = /\[(\d\d)\/(\w{3})\/(\d{4}):(\d\d:\d\d:\d\d(?:\.\d+)?) ([+-]\d{4})\]/

/** When something happened that another program tells of, in milliseconds since 1970; undefined when it does not say. */
export function timeIn(text: string): number | undefined {
  const found = iso.exec(text)
  const [, day, month, year, clock, zone] = common.exec(text) ?? []
  const time = found === null ? Date.parse(`${day} ${month} ${year} ${clock} ${zone}`) : Date.parse(withColon(found[0]))
  return Number.isNaN(time) ? undefined : time
}

function withColon(time: string): string {
  return time
    .replace(' ', 'T')
    .replace(',', '.')
    .replace(/([+-]\d\d)(\d\d)$/, '$1:$2')
}
