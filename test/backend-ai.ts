import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'
import { type Answer, type Server, startServer, type Teardown, temporaryDirectory } from './server.ts'

export const backendAiSecret = 'a-secret-of-backend-ai-for-tests'
export const authHeader = 'x-backendai-storage-auth-token'

export interface Reply {
  status: number
  headers: Record<string, string | string[] | undefined>
  bytes: Buffer
  text: string
  /** Undefined when the body is no JSON. */
  json: Answer
}

/** A service that speaks Backend.AI's wire too, with the volume that the recorded answers name and another one. */
export async function startBackendAi(t: Teardown, env: Record<string, string> = {}): Promise<Server> {
  const root = await temporaryDirectory(t)
  const volumes = {
    volume1: { backend: 'posix', root: join(root, 'volume1') },
    volume2: { backend: 'posix', root: join(root, 'volume2') },
    ...(env.BACKEND_PLUGINS && { remote: { backend: 'remote', root: join(root, 'remote') } }),
  }
  const own = { VOLUMES: JSON.stringify(volumes), BACKEND_AI_MANAGER_SECRET: backendAiSecret }
  return startServer(t, { env: { ...own, ...env } })
}

/** Sends JSON with any method, as aiohttp does and fetch does not. */
export async function send(
  method: string,
  url: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Reply> {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const json =
    text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers: { ...json, ...headers } }, async (response) => {
      const bytes = await buffer(response)
      const { statusCode: status = 0, headers } = response
      resolve({ status, headers, bytes, text: bytes.toString(), json: parsed(bytes.toString()) })
    })
    sent.on('error', reject)
    sent.end(text)
  })
}

/** A call of Backend.AI's manager. */
export async function asBackendAi(
  server: Server,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Reply> {
  return send(method, `${server.managerUrl}/backend-ai${path}`, body, { [authHeader]: backendAiSecret, ...headers })
}

/** An answer of Backend.AI's own storage-proxy. */
export interface Recorded {
  /** What was asked, without the body; of several the second one has `(2)` behind it, and so on. */
  name: string
  status: number
  type: string | undefined
  headers: Record<string, string>
  text: string
}

/** The recorded answers, in the order in which they came. */
export function readRecorded(): Recorded[] {
  const text = readFileSync(new URL('./backend-ai-recorded.txt', import.meta.url), 'utf8')
  const seen = new Map<string, number>()
  return text
    .split(/^## /m)
    .filter((part) => part.includes(' -> '))
    .map((part) => {
      const [, label = '', status] = /^(.*) -> (\d{3})/.exec(part) ?? []
      const short = label.replace(/ \{.*/, '').trim()
      const count = (seen.get(short) ?? 0) + 1
      seen.set(short, count)
      const headers = JSON.parse(/^ {3}H (.*)$/m.exec(part)?.[1] ?? '{}')
      return {
        name: count === 1 ? short : `${short} (${count})`,
        status: Number(status),
        type: mediaType(headers['Content-Type']),
        headers,
        text: fromPython(/^ {3}B b(.*)$/m.exec(part)?.[1] ?? "''"),
      }
    })
}

export function mediaType(header: unknown): string | undefined {
  return typeof header === 'string' ? header.split(';')[0] : undefined
}

/** Bytes as Python writes them, of text. */
function fromPython(literal: string): string {
  return literal.slice(1, -1).replace(/\\(['\\])/g, '$1')
}

function parsed(text: string): Answer {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Also of a text that was recorded up to its first hundreds of characters. */
function parsedBeginning(text: string): Answer {
  const beginning = text.replace(/[\\,]+$/, '')
  return ['', '"}', ']}'].map((end) => parsed(beginning + end)).find((json) => json !== undefined)
}

/** The keys and types of a value: of a list those of its first element. */
export function shapeOf(value: unknown): unknown {
  if (value === null) return 'null'
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])]
  if (typeof value !== 'object') return typeof value
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, shapeOf(one)]))
}

/** Says how an answer differs from the recorded one: by status, media type, keys or types. */
export function differenceOf({ status, type, text }: Recorded, answer: Reply): string | undefined {
  const found: string[] = []
  if (answer.status !== status) found.push(`status ${answer.status}`)
  const ours = mediaType(answer.headers['content-type'])
  // An empty body has no type that anybody goes by.
  if (text !== '' && ours !== type) found.push(`type ${ours}`)
  if (text === '' && answer.text !== '') found.push('a body')
  const json = type?.endsWith('json') ? parsedBeginning(text) : undefined
  if (json !== undefined && found.length === 0) {
    const [theirs, shape] = [JSON.stringify(sorted(shapeOf(json))), JSON.stringify(sorted(shapeOf(answer.json)))]
    if (theirs !== shape) found.push(`shape ${shape} instead of ${theirs}`)
  }
  return found.length === 0 ? undefined : found.join(', ')
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, one]) => [key, sorted(one)])
      .toSorted(),
  )
}

/** The rows of the table of what differs in docs/backend-ai.md, by the name of the recorded answer. */
export function readDeviations(): Map<string, { theirs: string; ours: string; why: string }> {
  const text = readFileSync(new URL('../docs/backend-ai.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| `([^`]+)` \| (.+?) \| (.+?) \| (.+?) \|$/gm)]
  return new Map(rows.map(([, name, theirs, ours, why]) => [name!, { theirs: theirs!, ours: ours!, why: why! }]))
}

/** A function by which an answer must be like the recorded one, or be in the table of what differs, which says how. */
export function comparing(t: Test): (name: string, answering: Promise<Reply>) => Promise<Reply> {
  const recorded = readRecorded()
  const deviations = readDeviations()
  return async (name, answering) => {
    const answer = await answering
    const theirs = recorded.find((one) => one.name === name)
    if (theirs === undefined) throw new Error(`there is no recorded answer to ${name}`)
    const difference = differenceOf(theirs, answer)
    const deviation = deviations.get(name)
    if (deviation === undefined) t.equal(difference, undefined, `${name}: ${answer.status} ${answer.text}`)
    else {
      t.ok(difference, `${name} differs, as the table says`)
      t.match(deviation.theirs, String(theirs.status), `the table has the recorded status of ${name}`)
      t.match(deviation.ours, String(answer.status), `the table has the status of ${name}`)
      t.ok(deviation.why, 'and a reason')
    }
    return answer
  }
}
