export const ndjson = 'application/x-ndjson'
export const eventStream = 'text/event-stream'

/** Whether a client names a type, and likes it no less than JSON (RFC 9110, section 12.5.1). */
export function prefers(type: string, accept = ''): boolean {
  const qualities = new Map<string, number>()
  for (const range of accept.toLowerCase().split(',')) {
    const [name = '', ...parameters] = range.split(';').map((text) => text.trim())
    const quality = parameters.find((parameter) => parameter.startsWith('q='))
    qualities.set(name, quality === undefined ? 1 : Number(quality.slice(2)))
  }
  const named = qualities.get(type) ?? 0
  const other = ['application/json', 'application/*', '*/*'].find((one) => qualities.has(one)) ?? ''
  return named > 0 && named >= (qualities.get(other) ?? 0)
}
