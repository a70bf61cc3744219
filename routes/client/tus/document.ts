import type { HeaderName } from '../../../plugins/request/openapi-headers.ts'

/** What the OpenAPI document says of the headers of tus; the handlers read and write them by hand. */

const about: HeaderName[] = ['Tus-Version', 'Tus-Extension', 'Tus-Checksum-Algorithm', 'Tus-Max-Size']

/** What tells how far an upload is. */
export const progressHeaders: HeaderName[] = ['Upload-Offset', 'Upload-Expires', 'Repr-Digest']

/** What tells all of an upload. */
export const describedHeaders: HeaderName[] = [
  ...progressHeaders,
  'Upload-Length',
  'Upload-Defer-Length',
  'Upload-Metadata',
  'Upload-Concat',
]

export const beginHeaders: HeaderName[] = [
  'Tus-Resumable',
  'Upload-Length',
  'Upload-Defer-Length',
  'Upload-Metadata',
  'Upload-Concat',
  'Upload-Checksum',
  'Expect',
]

export const appendHeaders: HeaderName[] = [
  'Tus-Resumable',
  'Upload-Offset',
  'Upload-Length',
  'Upload-Checksum',
  'Expect',
]

/** Every answer says which tus it is of; some say what is supported. */
export function tusAnswers(answers: Record<string, HeaderName[]>): Record<string, HeaderName[]> {
  const own = Object.entries(answers).map(([status, names]) => [status, ['Tus-Resumable', ...names]] as const)
  return { ...Object.fromEntries(own), '4xx': ['Tus-Resumable', ...about], '5xx': ['Tus-Resumable'] }
}

export const discoveryHeaders = tusAnswers({ 204: [...about, 'Allow'] })
