import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { Teardown } from './server.ts'

/** A span as it came by OTLP. */
export interface Span {
  traceId: string
  spanId: string
  /** Empty for the first one of a trace. */
  parentId: string
  name: string
  kind: number
  startMs: number
  endMs: number
  attributes: Record<string, string | number>
  links: { traceId: string; spanId: string }[]
  /** 2 is an error. */
  status: number
  resource: Record<string, string | number>
}

interface Field {
  number: number
  varint: number
  fixed: bigint
  bytes: Buffer
}

/** The fields of a message (protobuf's encoding), whichever they are. */
function* fieldsOf(message: Buffer): Generator<Field> {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++]!
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
  while (at < message.length) {
    const key = varint()
    const field: Field = { number: key >> 3, varint: 0, fixed: 0n, bytes: Buffer.alloc(0) }
    const type = key & 7
    if (type === 0) field.varint = varint()
    else if (type === 1) {
      field.fixed = message.readBigUInt64LE(at)
      at += 8
    } else if (type === 5) at += 4
    else if (type === 2) {
      const length = varint()
      field.bytes = message.subarray(at, at + length)
      at += length
    } else throw new Error(`wire type ${type}`)
    yield field
  }
}

function all(message: Buffer, number: number): Field[] {
  return [...fieldsOf(message)].filter((field) => field.number === number)
}

function bytesOf(message: Buffer, number: number): Buffer {
  return all(message, number)[0]?.bytes ?? Buffer.alloc(0)
}

/** `KeyValue`s with a string or a number (opentelemetry/proto/common/v1). */
function attributesOf(message: Buffer, number: number): Record<string, string | number> {
  return Object.fromEntries(
    all(message, number).map(({ bytes }) => {
      const [value] = fieldsOf(bytesOf(bytes, 2))
      return [bytesOf(bytes, 1).toString(), value?.number === 1 ? value.bytes.toString() : (value?.varint ?? '')]
    }),
  )
}

/** `ExportTraceServiceRequest` (opentelemetry/proto/collector/trace/v1). */
function decode(request: Buffer): Span[] {
  return all(request, 1).flatMap(({ bytes: ofResource }) => {
    const resource = attributesOf(bytesOf(ofResource, 1), 1)
    const scopes = all(ofResource, 2)
    return scopes.flatMap(({ bytes }) => all(bytes, 2).map(({ bytes: span }) => ({ ...decodeSpan(span), resource })))
  })
}

function decodeSpan(span: Buffer): Omit<Span, 'resource'> {
  const milliseconds = (number: number) => Number((all(span, number)[0]?.fixed ?? 0n) / 1000n) / 1000
  const hex = (message: Buffer, number: number) => bytesOf(message, number).toString('hex')
  return {
    traceId: hex(span, 1),
    spanId: hex(span, 2),
    parentId: hex(span, 4),
    name: bytesOf(span, 5).toString(),
    kind: all(span, 6)[0]?.varint ?? 0,
    startMs: milliseconds(7),
    endMs: milliseconds(8),
    attributes: attributesOf(span, 9),
    links: all(span, 13).map(({ bytes }) => ({ traceId: hex(bytes, 1), spanId: hex(bytes, 2) })),
    status: all(bytesOf(span, 15), 3)[0]?.varint ?? 0,
  }
}

/** Takes spans by OTLP over HTTP, as a collector does. */
export class Receiver {
  readonly spans: Span[] = []
  /** What it answers with. */
  status = 200
  requests = 0
  readonly #server = createServer(async (request, answer) => {
    const body = await buffer(request)
    this.requests++
    if (request.url !== '/v1/traces' || request.headers['content-type'] !== 'application/x-protobuf') {
      answer.writeHead(404).end()
      return
    }
    if (this.status === 200) this.spans.push(...decode(body))
    answer.writeHead(this.status).end()
  })

  static async start(t: Teardown, port = 0): Promise<Receiver> {
    const receiver = new Receiver()
    receiver.#server.listen(port, '127.0.0.1')
    await once(receiver.#server, 'listening')
    t.teardown(() => receiver.stop())
    return receiver
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  stop(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  of(requestId: string): Span[] {
    return this.spans.filter(({ attributes }) => attributes.request_id === requestId)
  }
}
