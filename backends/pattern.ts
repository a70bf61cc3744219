import { InvalidPath } from './errors.ts'

// Not picomatch or minimatch: both make regular expressions, which some patterns keep busy for minutes, and take what
// they cannot parse for plain text.

/** As long as a pattern for one name is ever useful, several times over. */
export const maxPatternBytes = 1024

/** One character of a name, by its code point; or what stands for one or for any number of them. */
type Token = number | 'one' | 'many' | CharacterSet

interface CharacterSet {
  negated: boolean
  ranges: [first: number, last: number][]
}

/** A part between two slashes; `anyPath` is `**`. */
type Segment = Token[] | 'anyPath'

/**
 * A glob, as of a shell: `*` stands for any characters but `/`, `?` for one, `[a-z]` and `[!a-z]` for one of a set or one
 * that is not in it, and `\` takes the meaning from the next character. Nothing else is special, also not a dot at the
 * begin of a name. Without a `/` it is compared with an entry's name, wherever that is; with one, with the path relative
 * to the directory that is listed. There `**` stands for any number of directories, or at the end for all that is below.
 */
export class Pattern {
  readonly text: string
  /** Whether it is compared with paths, and not with names. */
  readonly ofPaths: boolean
  /** What begins all names, or all paths, that match. */
  readonly literal: string
  readonly #segments: Segment[]

  constructor(text: string) {
    const segments = parse(text)
    if (typeof segments === 'string') throw new InvalidPath(`a pattern ${segments}`)
    this.text = text
    this.#segments = segments
    this.ofPaths = segments.length > 1 || segments[0] === 'anyPath'
    this.literal = literalOf(segments)
  }

  /** @param path relative to the directory that is listed */
  matches(path: string): boolean {
    const [name] = this.#segments
    if (!this.ofPaths && name !== undefined && name !== 'anyPath') {
      return matchesName(name, path.slice(path.lastIndexOf('/') + 1))
    }
    return matchesPath(this.#segments, path.split('/'))
  }

  /** Whether anything below a directory can match. */
  leadsBelow(path: string): boolean {
    if (!this.ofPaths) return true
    const names = path.split('/')
    for (const [index, name] of names.entries()) {
      const segment = this.#segments[index]
      if (segment === 'anyPath') return true
      if (segment === undefined || !matchesName(segment, name)) return false
    }
    return this.#segments.length > names.length
  }
}

/** Says which rule of patterns a text breaks, if any. */
export function brokenPatternRule(text: string): string | undefined {
  const parsed = parse(text)
  return typeof parsed === 'string' ? parsed : undefined
}

/** @returns the rule that the text breaks, as a text */
function parse(text: string): Segment[] | string {
  if (text === '') return 'must not be empty'
  if (text.includes('\0')) return 'must not contain NUL'
  if (!text.isWellFormed()) return 'must be valid UTF-8'
  if (Buffer.byteLength(text) > maxPatternBytes) return `must not be over ${maxPatternBytes} bytes`
  const segments: Segment[] = []
  // A `/` means nothing else anywhere: a set or a `\\` that is open before it is refused.
  for (const part of text.split('/')) {
    if (part === '') return 'must not begin or end with / or have //'
    if (part === '.' || part === '..') return `must not have a ${part} segment`
    if (part === '**') {
      segments.push('anyPath')
      continue
    }
    const segment = parseSegment(part)
    if (typeof segment === 'string') return segment
    segments.push(segment)
  }
  return segments
}

function parseSegment(text: string): Token[] | string {
  const characters = Array.from(text)
  const tokens: Token[] = []
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at]
    if (character === '*') {
      if (tokens.at(-1) === 'many') return 'must have ** only as a whole segment'
      tokens.push('many')
    } else if (character === '?') tokens.push('one')
    else if (character === '[') {
      const parsed = parseSet(characters, at + 1)
      if (typeof parsed === 'string') return parsed
      tokens.push(parsed.set)
      at = parsed.end
    } else {
      const literal = character === '\\' ? characters[++at] : character
      if (literal === undefined) return 'must have a character after each \\'
      tokens.push(codePoint(literal))
    }
  }
  return tokens
}

/** @param at behind the `[` */
function parseSet(characters: string[], at: number): { set: CharacterSet; end: number } | string {
  const negated = characters[at] === '!' || characters[at] === '^'
  const ranges: CharacterSet['ranges'] = []
  const unclosed = 'must have a ] for each [ in the same segment'
  let end = negated ? at + 1 : at
  /** The next character of the set, if it is not its end. */
  const take = () => {
    if (characters[end] === '\\') end++
    const character = characters[end++]
    return character === undefined ? undefined : codePoint(character)
  }
  while (characters[end] !== ']') {
    if (characters[end] === '[' && [':', '.', '='].includes(characters[end + 1] ?? '')) {
      return 'must not have classes such as [:alpha:]'
    }
    const first = take()
    let last = first
    if (characters[end] === '-' && characters[end + 1] !== ']') {
      end++
      last = take()
    }
    if (first === undefined || last === undefined) return unclosed
    if (first > last) return 'must have ranges from a lower to a higher character'
    ranges.push([first, last])
  }
  return ranges.length === 0 ? 'must not have a [] without characters' : { set: { negated, ranges }, end }
}

function codePoint(character: string): number {
  return character.codePointAt(0) ?? 0
}

function literalOf(segments: Segment[]): string {
  let literal = ''
  for (const [index, segment] of segments.entries()) {
    if (segment === 'anyPath') return literal
    for (const token of segment) {
      if (typeof token !== 'number') return literal
      literal += String.fromCodePoint(token)
    }
    if (index < segments.length - 1) literal += '/'
  }
  return literal
}

/** Only the last `*` is gone back to: so the work is at most the product of both lengths. */
function matchesName(tokens: Token[], name: string): boolean {
  let token = 0
  let at = 0
  let star = -1
  let resume = 0
  while (at < name.length) {
    const wanted = tokens[token]
    const point = name.codePointAt(at) ?? 0
    if (wanted === 'many') {
      star = token++
      resume = at
    } else if (wanted !== undefined && isOne(wanted, point)) {
      token++
      at += lengthOf(point)
    } else if (star >= 0) {
      token = star + 1
      resume += lengthOf(name.codePointAt(resume) ?? 0)
      at = resume
    } else return false
  }
  while (tokens[token] === 'many') token++
  return token === tokens.length
}

function isOne(token: Exclude<Token, 'many'>, point: number): boolean {
  if (typeof token === 'number') return token === point
  return token === 'one' || token.ranges.some(([first, last]) => first <= point && point <= last) !== token.negated
}

/** In UTF-16, of which JavaScript counts the units. */
function lengthOf(point: number): number {
  return point > 0xffff ? 2 : 1
}

/** The same with names in the place of characters, and `**` in that of `*`. */
function matchesPath(segments: Segment[], names: string[]): boolean {
  let segment = 0
  let at = 0
  let star = -1
  let resume = 0
  while (at < names.length) {
    const wanted = segments[segment]
    if (wanted === 'anyPath') {
      // At the end it takes what is below a directory, not the directory itself.
      if (segment === segments.length - 1) return true
      star = segment++
      resume = at
    } else if (wanted !== undefined && matchesName(wanted, names[at] ?? '')) {
      segment++
      at++
    } else if (star >= 0) {
      segment = star + 1
      at = ++resume
    } else return false
  }
  return segment === segments.length
}
