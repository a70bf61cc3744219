/** A header field such as Content-Type or Content-Disposition: a value, and what follows it as `; name=value`. */
export interface Parameterized {
  /** In lower case. */
  value: string
  /** By names in lower case. */
  parameters: Map<string, Parameter>
}

export interface Parameter {
  text: string
  quoted: boolean
}

/** What a backslash in quotes is: itself, or the escape of the next character, which is kept as it is written. */
export type Quoting = 'raw' | 'escaped'

// An element may be empty (RFC 9110, section 5.6.6).
const patterns: Record<Quoting, RegExp> = {
  raw: /[ \t]*;[ \t]*(?:([^\s";=]+)=(?:"([^"]*)"|([^\s";]+)))?/y,
  escaped: /[ \t]*;[ \t]*(?:([^\s";=]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s";]+)))?/y,
}

/** Undefined when the text is malformed, or has a parameter twice. */
export function readParameterized(text: string, quoting: Quoting): Parameterized | undefined {
  const [value = ''] = text.split(';', 1)
  const parameters = new Map<string, Parameter>()
  const pattern = patterns[quoting]
  let at = value.trimEnd().length
  const end = text.trimEnd().length
  while (at < end) {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match === null) return undefined
    at = pattern.lastIndex
    const [, name, quoted, plain] = match
    if (name === undefined) continue
    if (parameters.has(name.toLowerCase())) return undefined
    parameters.set(name.toLowerCase(), { text: quoted ?? plain ?? '', quoted: quoted !== undefined })
  }
  return { value: value.trim().toLowerCase(), parameters }
}
