import type { Collected, ForeignLine } from './collect.ts'
import type { LogLine } from './lines.ts'

/** A request, a job, or what was done under the ID otherwise. */
export interface Heading {
  kind: 'request' | 'opened' | 'job' | 'other'
  /** The request ID of one that opened a signed URL, or the ID of a job. */
  id?: string
  title: string
  begunAt: number
  endedAt: number
  /** Names of processes, `host/pid`, in the order of their work on it. */
  processes: string[]
  outcome?: string
}

export interface Chapter extends Heading {
  lines: LogLine[]
}

export interface Story {
  requestId: string
  /** Of an ID that opened a URL itself: the one that it was signed under. */
  signedUnder: string[]
  chapters: Chapter[]
  foreign: ForeignLine[]
  /** The first line that tells of something going wrong. */
  firstError?: LogLine
  omitted: number
}

/** Puts lines together to what was asked for and done, in order of time. */
export function tell(requestId: string, { lines, foreign, omitted }: Collected): Story {
  const chapters: Chapter[] = []
  const jobs = new Map<string, Chapter>()
  /** The requests under way, by process and ID; lines without a job belong to the one that began last. */
  const open = new Map<string, Chapter[]>()
  for (const line of lines) {
    const chapter = line.job_id === undefined ? ofRequest(line, requestId, open, chapters) : ofJob(line, jobs, chapters)
    chapter.lines.push(line)
    chapter.endedAt = line.time
    const process = processOf(line)
    if (chapter.processes.at(-1) !== process) chapter.processes.push(process)
    const outcome = outcomeOf(line)
    if (outcome !== undefined) chapter.outcome = outcome
  }
  const firstError = lines.find(isError)
  const own = lines.filter((line) => line.request_id === requestId)
  const origins = own.flatMap(({ origin_request_id: origin }) => (origin === undefined ? [] : [origin]))
  return {
    requestId,
    signedUnder: [...new Set(origins.filter((origin) => origin !== requestId))],
    chapters,
    foreign,
    omitted,
    ...(firstError && { firstError }),
  }
}

function ofJob(line: LogLine, jobs: Map<string, Chapter>, chapters: Chapter[]): Chapter {
  const id = line.job_id ?? ''
  const known = jobs.get(id)
  const kind = typeof line.kind === 'string' ? line.kind : undefined
  if (known !== undefined) {
    if (kind !== undefined) known.title = `job ${kind}`
    return known
  }
  const chapter = begin(line, { kind: 'job', id, title: kind === undefined ? 'job' : `job ${kind}` })
  jobs.set(id, chapter)
  chapters.push(chapter)
  return chapter
}

function ofRequest(line: LogLine, requestId: string, open: Map<string, Chapter[]>, chapters: Chapter[]): Chapter {
  const key = `${processOf(line)} ${line.request_id}`
  const under = open.get(key) ?? []
  open.set(key, under)
  const isOpened = line.request_id !== requestId
  if (line.msg === 'incoming request') {
    const kind = isOpened ? 'opened' : 'request'
    const chapter = begin(line, { kind, title: askedOf(line), ...(isOpened && { id: line.request_id }) })
    under.push(chapter)
    chapters.push(chapter)
    return chapter
  }
  const last = under.at(-1)
  if (last !== undefined) {
    if (line.msg === 'request completed' || line.msg === 'request aborted') under.splice(under.indexOf(last), 1)
    return last
  }
  const before = chapters.at(-1)
  if (before?.kind === 'other') return before
  const chapter = begin(line, { kind: 'other', title: 'work' })
  chapters.push(chapter)
  return chapter
}

function begin({ time }: LogLine, what: Pick<Chapter, 'kind' | 'id' | 'title'>): Chapter {
  return { ...what, begunAt: time, endedAt: time, processes: [], lines: [] }
}

function askedOf({ req }: LogLine): string {
  if (typeof req !== 'object' || req === null || !('method' in req) || !('url' in req)) return 'a request'
  return `${req.method} ${req.url}`
}

function processOf({ hostname, pid }: LogLine): string {
  return `${hostname}/${pid}`
}

const endsOfJobs = ['job succeeded', 'job failed', 'job cancelled']

function outcomeOf(line: LogLine): string | undefined {
  const { msg = '', res, reason } = line
  if (msg === 'request completed' && typeof res === 'object' && res !== null && 'statusCode' in res)
    return String(res.statusCode)
  if (msg === 'request aborted') return `aborted: ${reason}`
  if (msg === 'job started') return 'not ended'
  return endsOfJobs.includes(msg) ? msg.slice('job '.length) : undefined
}

/** A refusal is one for whoever asked, though not for the service. */
function isError({ level, msg }: LogLine): boolean {
  return level >= 50 || msg === 'request refused' || msg === 's3 command failed' || msg === 'request aborted'
}
