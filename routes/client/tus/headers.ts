import type { IncomingHttpHeaders } from 'node:http'
import { invalidHeader, Problem } from '../../../lib/problems.ts'
import { type Checksum, checksumAlgorithms, createChecksum } from '../../../plugins/vfolders/uploads/checksum.ts'
import type { Named } from '../../../plugins/vfolders/uploads/rows.ts'
import { readParameterized } from '../../parameters.ts'

/** The headers of tus 1.0.0 (tus.io/protocols/resumable-upload). */
export const tusVersion = '1.0.0'
export const tusExtensions =
  'creation,creation-with-upload,creation-defer-length,checksum,expiration,termination,concatenation'
export const uploadMediaType = 'application/offset+octet-stream'

function readText(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name.toLowerCase()]
  if (Array.isArray(value)) throw invalidHeader(name, 'must be given once')
  return value
}

function readInteger(headers: IncomingHttpHeaders, name: string): number | undefined {
  const value = readText(headers, name)
  if (value === undefined) return undefined
  const number = Number(value)
  if (!/^\d+$/.test(value) || !Number.isSafeInteger(number)) throw invalidHeader(name, 'must be a number of bytes')
  return number
}

export function requireVersion(headers: IncomingHttpHeaders): void {
  if (headers['tus-resumable'] === tusVersion) return
  throw new Problem('tus_version_unsupported', `Tus-Resumable must be ${tusVersion}.`)
}

/** Requires the media type of an upload's body. @throws {Problem} `unsupported_media_type` */
export function requireMediaType(headers: IncomingHttpHeaders): void {
  if (readParameterized(headers['content-type'] ?? '', 'escaped')?.value === uploadMediaType) return
  throw new Problem('unsupported_media_type', `Content-Type must be ${uploadMediaType}.`)
}

export function offsetOf(headers: IncomingHttpHeaders): number {
  const offset = readInteger(headers, 'Upload-Offset')
  if (offset === undefined) throw invalidHeader('Upload-Offset', 'must be given')
  return offset
}

export const declaredLengthOf = (headers: IncomingHttpHeaders): number | undefined =>
  readInteger(headers, 'Upload-Length')

/** The length of a new upload; undefined when it is to follow. */
export function lengthOf(headers: IncomingHttpHeaders): number | undefined {
  const length = declaredLengthOf(headers)
  const defer = readText(headers, 'Upload-Defer-Length')
  if (defer !== undefined && defer !== '1') throw invalidHeader('Upload-Defer-Length', 'must be 1')
  if ((length === undefined) === (defer === undefined)) {
    throw invalidHeader('Upload-Length', 'must be given, or else Upload-Defer-Length')
  }
  return length
}

const pair = /^ *([!-+\--~]+)(?: ((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?))? *$/

/** It is given back as it came, so it is only checked. */
export function metadataOf(headers: IncomingHttpHeaders): string | undefined {
  const metadata = readText(headers, 'Upload-Metadata')
  if (metadata === undefined || metadata === '') return undefined
  const keys = metadata.split(',').map((item) => pair.exec(item)?.[1])
  if (keys.includes(undefined))
    throw invalidHeader('Upload-Metadata', 'must be keys with values in base64, separated by commas')
  if (new Set(keys).size < keys.length) throw invalidHeader('Upload-Metadata', 'must have each key once')
  return metadata
}

export function checksumOf(headers: IncomingHttpHeaders): Checksum | undefined {
  const value = readText(headers, 'Upload-Checksum')
  if (value === undefined) return undefined
  const [algorithm = '', base64 = '', ...rest] = value.split(' ')
  const expected = Buffer.from(base64, 'base64')
  if (rest.length > 0 || expected.length === 0 || expected.toString('base64') !== base64) {
    throw invalidHeader('Upload-Checksum', 'must be an algorithm and a value in base64')
  }
  if (!checksumAlgorithms.includes(algorithm)) {
    throw invalidHeader('Upload-Checksum', `must use one of ${checksumAlgorithms.join(', ')}`)
  }
  return createChecksum(algorithm, expected)
}

export type Concat = { kind: 'whole' | 'partial' } | { kind: 'final'; parts: Named[]; value: string }

/** What a new upload is in a concatenation. The URLs of its parts carry their own tokens. */
export function concatOf(headers: IncomingHttpHeaders): Concat {
  const value = readText(headers, 'Upload-Concat')
  if (value === undefined) return { kind: 'whole' }
  if (value === 'partial') return { kind: 'partial' }
  const urls = /^final;(.+)$/.exec(value)?.[1]?.trim().split(/ +/) ?? []
  if (urls.length === 0) throw invalidHeader('Upload-Concat', 'must be partial, or final; and URLs of uploads')
  const parts = urls.map(partOf)
  if (new Set(parts.map(({ id }) => id)).size < parts.length)
    throw invalidHeader('Upload-Concat', 'must name each upload once')
  return { kind: 'final', parts, value }
}

function partOf(text: string): Named {
  const url = URL.parse(text, 'http://localhost')
  const id = /\/upload\/tus\/([0-9a-f-]{36})$/.exec(url?.pathname ?? '')?.[1]
  if (id === undefined) throw invalidHeader('Upload-Concat', 'must name URLs of uploads')
  return { id, token: url?.searchParams.get('token') ?? undefined }
}
