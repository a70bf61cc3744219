import type { IncomingHttpHeaders } from 'node:http'
import type { Entry } from '../../../backends/backend.ts'

export interface Validators {
  /** Strong, in quotes. */
  etag: string | undefined
  lastModified: Date
}

export function validatorsOf({ etag, modifiedAt }: Entry): Validators {
  return { etag: etag === undefined ? undefined : `"${etag}"`, lastModified: modifiedAt }
}

/**
 * Evaluates the preconditions of a GET or HEAD in the order of RFC 9110, section 13.2.2. Dates in HTTP have no
 * fractions of a second, so times are compared in whole seconds.
 */
export function evaluatePreconditions(
  headers: IncomingHttpHeaders,
  validators: Validators,
): 'proceed' | 'not-modified' | 'failed' {
  if (headers['if-match'] !== undefined) {
    if (!matches(headers['if-match'], validators.etag, 'strong')) return 'failed'
  } else if (isModifiedSince(headers['if-unmodified-since'], validators.lastModified)) {
    return 'failed'
  }

  if (headers['if-none-match'] !== undefined) {
    return matches(headers['if-none-match'], validators.etag, 'weak') ? 'not-modified' : 'proceed'
  }
  return isModifiedSince(headers['if-modified-since'], validators.lastModified) === false ? 'not-modified' : 'proceed'
}

/**
 * Whether a file of this modification time has changed after the date in a header; undefined when that is not a date.
 */
export function isModifiedSince(header: string | undefined, lastModified: Date): boolean | undefined {
  const since = parseDate(header)
  return since === undefined ? undefined : toSeconds(lastModified) > since
}

/** The `Range` of a request, unless its `If-Range` says that it is meant for other bytes than these. */
export function applicableRange(headers: IncomingHttpHeaders, validators: Validators): string | undefined {
  const { range, 'if-range': ifRange } = headers
  return typeof ifRange !== 'string' || rangeApplies(ifRange, validators) ? range : undefined
}

/**
 * Whether a `Range` still applies (RFC 9110, section 13.1.5): only if the file still has the bytes that the client has
 * a part of. A date proves that only once the second is over in which the file could change again unnoticed (section
 * 8.8.2.2).
 */
function rangeApplies(ifRange: string, validators: Validators): boolean {
  if (ifRange.startsWith('"')) return ifRange === validators.etag
  const modified = toSeconds(validators.lastModified)
  return parseDate(ifRange) === modified && modified < toSeconds(new Date())
}

/** What an `If-Match` or `If-None-Match` names. */
export type Tags = '*' | string[]

/** `entity-tag` of RFC 9110, section 8.8.3, and what separates two of them; a list may have empty elements (5.6.1.2). */
const tagInList = /(?:[ \t]*,)*[ \t]*((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)/y

/** Undefined for what is neither `*` nor a list of tags; `*` is no element of a list (RFC 9110, section 13.1.2). */
export function parseTags(header: string): Tags | undefined {
  if (header.trim() === '*') return '*'
  const tags: string[] = []
  let end = 0
  tagInList.lastIndex = 0
  for (let found = tagInList.exec(header); found !== null; found = tagInList.exec(header)) {
    tags.push(found[1] ?? '')
    end = tagInList.lastIndex
  }
  return tags.length > 0 && /^[ \t,]*$/.test(header.slice(end)) ? tags : undefined
}

/** Whether one of the tags is this etag, or any will do. What cannot be read matches nothing. */
export function matches(header: string, etag: string | undefined, comparison: 'strong' | 'weak'): boolean {
  const tags = parseTags(header) ?? []
  if (tags === '*') return true
  if (etag === undefined) return false
  return tags.some((tag) => tag === etag || (comparison === 'weak' && tag === `W/${etag}`))
}

function toSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000)
}

// The three forms of RFC 9110, section 5.6.7; the last one, of asctime(3), does not say that it is in UTC.
const httpDate =
  /^[A-Z][a-z]+(, \d\d( [A-Z][a-z]{2} \d{4}|-[A-Z][a-z]{2}-\d\d) [\d:]{8} GMT|( [A-Z][a-z]{2}) [ \d]\d [\d:]{8} \d{4})$/

/** Undefined for what is not an HTTP date, which RFC 9110, section 13.1.3 says to ignore. */
export function parseDate(value = ''): number | undefined {
  if (!httpDate.test(value)) return undefined
  const time = Date.parse(value.endsWith('GMT') ? value : `${value} GMT`)
  return Number.isNaN(time) ? undefined : Math.floor(time / 1000)
}
