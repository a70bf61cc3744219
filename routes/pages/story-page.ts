import type { Story } from './story.ts'

type Chapter = Story['chapters'][number]
type Event = Chapter['events'][number]

/** A silence that is longer is told of. */
const gapMilliseconds = 1000

const style = `
:root { color-scheme: light dark; --line: #8884; --dim: #888; --bad: #c33; --good: #2a7; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; margin-bottom: .2rem; }
.dim, time, .gap { color: var(--dim); }
section { border-left: 3px solid var(--line); margin: .7rem 0; padding: 0 0 0 1rem; }
section p { margin: 0; font-size: .9rem; overflow-wrap: anywhere; }
section.opened { margin-left: 2rem; }
section.job { border-left-color: #68c; }
h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: .9rem; }
td { padding: .1rem .9rem .1rem 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child, td:nth-child(4) { white-space: nowrap; font-variant-numeric: tabular-nums; text-align: right; }
.bad { color: var(--bad); } .good { color: var(--good); }
code { font-size: .85em; }
.gap { margin-left: 1rem; }
`

/** A story as a page that needs nothing else, and runs nothing. */
export function toPage(story: Story): string {
  const { requestId, chapters, signedUnder, firstError, nextCursor } = story
  const start = Math.min(...chapters.map(({ begunAt }) => Date.parse(begunAt)))
  const end = Math.max(...chapters.map(({ endedAt }) => Date.parse(endedAt)))
  const summary = [
    ...(['request', 'opened', 'job'] as const).flatMap((kind) => counted(chapters, kind)),
    `${seconds(end - start)} s`,
    `from ${new Date(start).toISOString()}`,
  ]
  const more =
    nextCursor === null ? '' : `<p><a href="?cursor=${encodeURIComponent(nextCursor)}">What came after</a></p>`
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escaped(requestId)}</title>
<style>${style}</style>
<h1>${escaped(requestId)}</h1>
<p class="dim">${escaped(summary.join(' · '))}</p>
${signedUnder.map((origin) => `<p>Opens a URL that was signed under ${linkTo(origin)}</p>`).join('\n')}
${firstError ? `<p class="bad">First error: ${seconds(Date.parse(firstError.time) - start)} s, ${sentence(firstError)}</p>` : ''}
${sectionsOf(chapters, start)}
${more}
</html>
`
}

function counted(chapters: Chapter[], kind: Chapter['kind']): string[] {
  const count = chapters.filter((chapter) => chapter.kind === kind).length
  const name = kind === 'opened' ? 'opened URL' : kind
  return count === 0 ? [] : [`${count} ${name}${count === 1 ? '' : 's'}`]
}

function sectionsOf(chapters: Chapter[], start: number): string {
  let before = start
  return chapters
    .map((chapter) => {
      const gap = Date.parse(chapter.begunAt) - before
      before = Math.max(before, Date.parse(chapter.endedAt))
      return `${gap > gapMilliseconds ? `<p class="gap">… ${seconds(gap)} s</p>` : ''}${sectionOf(chapter, start)}`
    })
    .join('\n')
}

function sectionOf(chapter: Chapter, start: number): string {
  const { kind, id, title, begunAt, outcome, events, job } = chapter
  const by = kind !== 'job' && id !== undefined ? `${linkTo(id)}: ` : ''
  const name = kind === 'job' ? `${escaped(title)} <code>${escaped(id ?? '')}</code>` : escaped(title)
  const table = `<table>${events.map((event) => rowOf(event, start)).join('')}</table>`
  const error = job?.error ? `<p class="bad">${escaped(`${job.error.code}: ${job.error.detail}`)}</p>` : ''
  return `<section class="${kind}">
<h2><time>${seconds(Date.parse(begunAt) - start)}</time> ${by}${name} ${outcome ? `→ ${outcomeOf(outcome)}` : ''}</h2>
<p class="dim">${escaped(circumstances(chapter))}</p>
${events.length > 1 ? table : ''}${error}
</section>`
}

/** Who, for how long and on which processes; of what is one event, all that is known of it. */
function circumstances({ actor, begunAt, endedAt, processes, events }: Chapter): string {
  const took = Date.parse(endedAt) - Date.parse(begunAt)
  const [only, another] = events
  const { bytes, folder, subject } = (another === undefined && only) || {}
  return [
    actor,
    ...(took > 0 ? [`${seconds(took)} s`] : []),
    ...(bytes === undefined ? [] : [bytesOf(bytes)]),
    ...(folder === undefined ? [] : [`vfolder ${folder}`]),
    ...(subject === undefined ? [] : [subject]),
    ...(processes.length === 0 ? [] : [`${processes.length === 1 ? 'process' : 'processes'} ${processes.join(', ')}`]),
  ].join(' · ')
}

function bytesOf(bytes: number): string {
  return `${bytes.toLocaleString('en')} B`
}

function rowOf(event: Event, start: number): string {
  const cells = [
    `<time>${seconds(Date.parse(event.time) - start)}</time>`,
    escaped(event.action),
    outcomeOf(event.code === undefined ? event.outcome : `${event.outcome}: ${event.code}`),
    event.bytes === undefined ? '' : bytesOf(event.bytes),
    escaped([event.path, countOf(event)].filter(Boolean).join(' ')),
    `<code>${escaped([event.folder, event.subject].filter(Boolean).join(' '))}</code>`,
  ]
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`
}

function countOf({ action, count }: Event): string {
  if (count === undefined) return ''
  if (action.startsWith('storage.')) return `${seconds(count)} s`
  return action === 'job.attempt' ? `attempt ${count}` : `× ${count}`
}

function sentence({ action, path, outcome, code }: Event): string {
  return escaped([action, path, outcome, code].filter(Boolean).join(' '))
}

function outcomeOf(outcome: string): string {
  const kind = /^succeeded/.test(outcome)
    ? 'good'
    : /^(failed|refused|aborted|repeated|lost)/.test(outcome)
      ? 'bad'
      : 'dim'
  return `<span class="${kind}">${escaped(outcome)}</span>`
}

function linkTo(requestId: string): string {
  return `<a href="/requests/${encodeURIComponent(requestId)}">${escaped(requestId)}</a>`
}

function seconds(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(3)
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
}
