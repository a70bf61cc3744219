import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { _Object as ListedObject, S3Client } from '@aws-sdk/client-s3'

const elements = /<Contents>(.*?)<\/Contents>/gs
const references: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

/**
 * Reads the objects of each answer to ListObjectsV2, in the place of the SDK, which still reads the rest of it: its parser
 * for all that XML can be takes several times as long as the server does. The element `Contents` has only elements with
 * text (Amazon S3's API reference); an answer where one has no key, no time or anything else is left to the SDK.
 * Bench row `s3-list`.
 */
export function parseListings(client: S3Client): void {
  const found = new WeakMap<object, ListedObject[]>()
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args)
      const { response } = result
      if (context.commandName !== 'ListObjectsV2Command' || !isOk(response)) return result
      const xml = await text(response.body)
      const objects = objectsIn(xml)
      const rest = xml.replace(elements, '')
      const isAll = objects !== undefined && objects.length > 0 && !rest.includes('<Contents')
      if (isAll) found.set(context, objects)
      Object.assign(response, { body: Buffer.from(isAll ? rest : xml) })
      return result
    },
    { step: 'deserialize', priority: 'low', name: 'takeObjects' },
  )
  client.middlewareStack.add(
    (next, context) => async (args) => {
      found.delete(context)
      const result = await next(args)
      const objects = found.get(context)
      if (objects !== undefined && result.output !== undefined) Object.assign(result.output, { Contents: objects })
      return result
    },
    { step: 'deserialize', priority: 'high', name: 'giveObjects' },
  )
}

function isOk(response: unknown): response is { body: Readable } {
  if (typeof response !== 'object' || response === null) return false
  return (
    'statusCode' in response && response.statusCode === 200 && 'body' in response && response.body instanceof Readable
  )
}

function objectsIn(xml: string): ListedObject[] | undefined {
  const objects: ListedObject[] = []
  for (const [, element = ''] of xml.matchAll(elements)) {
    const key = textOf(element, 'Key')
    const time = Date.parse(textOf(element, 'LastModified') ?? '')
    if (key === undefined || Number.isNaN(time) || element.includes('<!')) return undefined
    objects.push({
      Key: key,
      LastModified: new Date(time),
      ETag: textOf(element, 'ETag'),
      Size: Number(textOf(element, 'Size') ?? 0),
    })
  }
  return objects
}

function textOf(element: string, name: string): string | undefined {
  const start = element.indexOf(`<${name}>`)
  const end = start < 0 ? -1 : element.indexOf('</', start)
  return end < 0 ? undefined : unescaped(element.slice(start + name.length + 2, end))
}

/** Text of XML with its references resolved. */
export function unescaped(text: string): string {
  if (!text.includes('&')) return text
  return text.replace(/&(?:#x([\da-f]+)|#(\d+)|(\w+));/gi, (reference, hex, decimal, name) => {
    if (name !== undefined) return references[name] ?? reference
    return String.fromCodePoint(hex === undefined ? Number(decimal) : Number.parseInt(hex, 16))
  })
}
