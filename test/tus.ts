import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Test } from 'tap'
import { Upload, type UploadOptions } from 'tus-js-client'
import { requestIdHeader } from '../plugins/request/request-id.ts'
import { type Answer, eventually, type Files, type Server } from './server.ts'

export type Headers = Record<string, string>

export function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

export async function signTus(
  files: Pick<Files, 'server' | 'folder'>,
  path: string,
  more: object = {},
): Promise<string> {
  const body = { operation: 'upload', paths: [path], ...more }
  return (await files.server.ask('POST', `/folders/${files.folder}/signed-urls`, body)).signedUrls[0].tusUrl
}

export interface TusAnswer {
  status: number
  offset: string | null
  headers: globalThis.Headers
  code?: string
}

/** One request of the protocol; every answer has its version and the request ID. */
export async function tus(
  method: string,
  url: string,
  headers: Headers = {},
  body?: string | Uint8Array,
): Promise<TusAnswer> {
  const requestId = `tus-${Math.random()}`
  const response = await fetch(url, {
    method,
    headers: { 'tus-resumable': '1.0.0', [requestIdHeader]: requestId, ...headers },
    ...(body !== undefined && { body: body as Uint8Array<ArrayBuffer> }),
  })
  const text = await response.text()
  const answer: Answer = text === '' ? {} : JSON.parse(text)
  assert.equal(response.headers.get(requestIdHeader), requestId, `${method} ${response.status} has the request ID`)
  assert.equal(response.headers.get('tus-resumable'), '1.0.0', `${method} ${response.status} has the version`)
  return {
    status: response.status,
    headers: response.headers,
    offset: response.headers.get('upload-offset'),
    ...(answer.code && { code: answer.code }),
  }
}

export const chunkType = { 'content-type': 'application/offset+octet-stream' }

export async function create(url: string, length: number, headers: Headers = {}): Promise<string> {
  const answer = await tus('POST', url, { 'upload-length': `${length}`, ...headers })
  assert.equal(answer.status, 201)
  return answer.headers.get('location')!
}

export function patch(
  url: string,
  offset: number,
  body: string | Uint8Array,
  headers: Headers = {},
): Promise<TusAnswer> {
  return tus('PATCH', url, { ...chunkType, 'upload-offset': `${offset}`, ...headers }, body)
}

/** A PATCH whose body is written to `socket` as the test goes on, and the beginning of its answer. */
export function startPatch(
  url: string,
  offset: number,
  length: number,
  headers: Headers = {},
): { socket: Socket; answer: Promise<string> } {
  const { hostname, port, pathname, search } = new URL(url)
  const socket = connect(Number(port), hostname)
  const answer = new Promise<string>((resolve) => {
    socket.once('data', (bytes) => resolve(String(bytes)))
    socket.on('error', () => {})
  })
  const head = [
    `PATCH ${pathname}${search} HTTP/1.1`,
    'Host: x',
    'Tus-Resumable: 1.0.0',
    `Content-Type: ${chunkType['content-type']}`,
    `Upload-Offset: ${offset}`,
    `Content-Length: ${length}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  return { socket, answer }
}

export async function assertNothingLeft(t: Test, server: Server, folder: string): Promise<void> {
  await eventually(async () => (await server.openFiles()).length === 0)
  // The cleanup makes a file there for an instant, to tell the time by.
  await eventually(async () => (await server.staged()).length === 0)
  t.same(await readdir(join(server.dataDir, 'volumes/default/uploads')), [], 'no bytes are left')
  // Room that is still set aside would be in the way of what just fits.
  const { usage } = await server.ask('GET', `/folders/${folder}`)
  await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: usage.bytes + 1000, files: usage.files + 1 } })
  const url = await server.sign(folder, 'fits', { operation: 'upload' })
  const response = await fetch(url, { method: 'PUT', body: new Uint8Array(1000) })
  t.match([response.status, await response.json()], [201, {}], 'no room is set aside')
  await server.ask('POST', `/folders/${folder}/files/delete`, { paths: ['fits'] })
  await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: null, files: null } })
}

/** A whole upload by the client that browsers use, which is patient enough for a server that has to start again. */
export function upload(content: Buffer | Readable, options: UploadOptions): Promise<Upload> {
  return new Promise((resolve, reject) => {
    const retryDelays = Array(3000).fill(30)
    const onSuccess = () => resolve(client)
    const client = new Upload(content, { retryDelays, onError: reject, onSuccess, ...options })
    client.start()
  })
}
