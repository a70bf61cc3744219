import type { LogLine } from './lines.ts'
import type { Chapter, Story } from './story.ts'

/** A silence that is longer is told of. */
const gapMilliseconds = 1000

/** What each line has, or what the title of its chapter says. */
const known = new Set([
  ...['level', 'time', 'pid', 'hostname', 'request_id', 'origin_request_id', 'job_id', 'msg', 'kind', 'trace_id'],
  ...['req', 'res', 'responseTime'],
])
const begins = new Set(['incoming request', 'request completed'])

/** The story as a tree for people: times in seconds since its beginning, silences, and the first error. */
export function print(story: Story): string {
  const { requestId, chapters, foreign, firstError, omitted, signedUnder } = story
  const [first] = chapters
  if (first === undefined) return `Nothing is known of ${requestId}.\n`
  const start = first.begunAt
  const end = Math.max(...chapters.map(({ endedAt }) => endedAt))
  const processes = new Set(chapters.flatMap(({ processes }) => processes))
  const out = [
    `${requestId}: ${counted(chapters)}, ${amount(processes.size, 'process', 'processes')}, ${seconds(end - start)} s`,
    `from ${new Date(start).toISOString()}`,
    ...signedUnder.map((origin) => `opens a URL that was signed under ${origin}`),
  ]
  let before = start
  for (const chapter of chapters) {
    out.push(...silence(chapter.begunAt - before), titleOf(chapter, start))
    before = chapter.begunAt
    for (const line of chapter.lines) {
      if (!begins.has(line.msg ?? '')) {
        out.push(...silence(line.time - before, '│ '), `${at(line.time - start)}  │ ${textOf(line)}`)
      }
      before = line.time
    }
    before = Math.max(before, chapter.endedAt)
  }
  if (foreign.length > 0) out.push('other logs:')
  for (const { time, file, text } of foreign) out.push(`${at(time - start)}  ${file}: ${text}`)
  if (firstError !== undefined) out.push(`first error: ${at(firstError.time - start).trim()} s, ${textOf(firstError)}`)
  if (omitted > 0) out.push(`${omitted} further lines are left out`)
  return `${out.join('\n')}\n`
}

function counted(chapters: Chapter[]): string {
  const of = (kind: Chapter['kind']) => chapters.filter((chapter) => chapter.kind === kind).length
  return [
    amount(of('request'), 'request'),
    ...(of('opened') > 0 ? [`${amount(of('opened'), 'opened URL')}`] : []),
    ...(of('job') > 0 ? [amount(of('job'), 'job')] : []),
  ].join(', ')
}

function amount(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}

function titleOf({ kind, id, title, begunAt, endedAt, outcome, processes }: Chapter, start: number): string {
  const by = kind === 'opened' ? `└ ${id}: ` : ''
  const name = kind === 'job' ? `${title} ${id}` : title
  const result = outcome === undefined ? '' : ` → ${outcome}, ${seconds(endedAt - begunAt)} s`
  return `${at(begunAt - start)}  ${by}${name}${result}  [${processes.join(', ')}]`
}

function silence(milliseconds: number, indent = ''): string[] {
  return milliseconds > gapMilliseconds ? [`${' '.repeat(9)}  ${indent}… ${seconds(milliseconds)} s`] : []
}

function at(milliseconds: number): string {
  return seconds(milliseconds).padStart(9)
}

function seconds(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(3)
}

function textOf(line: LogLine): string {
  const fields = Object.entries(line).filter(([name]) => !known.has(name))
  const told = fields.map(([name, value]) => `${name}=${shown(name, value)}`)
  return [line.msg, ...told].filter(Boolean).join(' ')
}

/** Of an error what it says, without where in the code. */
function shown(name: string, value: unknown): string {
  if (name === 'err' && typeof value === 'object' && value !== null && 'message' in value) return String(value.message)
  return typeof value === 'string' ? value : JSON.stringify(value)
}
