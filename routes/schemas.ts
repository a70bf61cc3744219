import { type Static, type TSchema, Type } from '@sinclair/typebox'
import type { EntryPath } from '../backends/path.ts'
import { ProblemDocument } from '../plugins/request/errors.ts'
import { bytes } from '../plugins/request/openapi-document.ts'
import { type HeaderName, requestHeaders, responseHeaders } from '../plugins/request/openapi-headers.ts'
import { pathKeyword, patternKeyword } from '../plugins/request/validation.ts'
import { archiveFormats } from '../plugins/transfer/archives/index.ts'

export const Uuid = Type.String({
  format: 'uuid',
  description: 'a UUID in lower case',
  examples: ['0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11'],
})

export const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'bytes', examples: [5] })

/** What passes this schema keeps the rules of paths: the keyword asks them. */
export const Path = Type.Unsafe<EntryPath>({
  type: 'string',
  [pathKeyword]: true,
  description: 'relative to the vfolder, `/`-separated, UTF-8',
  examples: ['data/train.csv'],
})

export const PathOrRoot = Type.Unsafe<EntryPath | ''>({
  type: 'string',
  [pathKeyword]: 'or-empty',
  description: 'a path; empty for the vfolder',
})

/** What passes this schema keeps the rules of patterns. */
export const Pattern = Type.Unsafe<string>({
  type: 'string',
  [patternKeyword]: true,
  description:
    'a glob. Without a `/` for the names of entries, with one for their paths relative to the listed directory: `*` stands for ' +
    'any characters but `/`, `?` for one, `[a-z]` for one of a set, `[!a-z]` for one that is not in it, `**` as a whole segment ' +
    'for any number of directories, or at the end for all below; `\\` takes the meaning from the next character',
  examples: ['*.csv', 'logs/2026-*/**'],
})

/** ISO 8601 in UTC. */
export const Time = Type.String({ format: 'date-time' })

/** A time that the code has as a `Date`. */
export const DateTime = Type.Unsafe<Date>({ type: 'string', format: 'date-time' })

export const FolderParams = Type.Object({ id: Uuid })

export const Entry = Type.Object(
  {
    path: Type.String(),
    type: Type.Union([Type.Literal('file'), Type.Literal('directory'), Type.Literal('symlink')]),
    size: Bytes,
    modifiedAt: DateTime,
    changedAt: Type.Optional({
      ...DateTime,
      description: 'when its bytes, owner, mode or name last changed, where the storage keeps that',
    }),
    etag: Type.Optional(Type.String({ description: 'of files; changes with their bytes' })),
    mode: Type.Optional(Type.Integer({ description: 'permission bits, where the storage keeps them' })),
    target: Type.Optional(Type.String({ description: 'of symlinks: where it leads, as it is written in it' })),
  },
  {
    $id: 'Entry',
    title: 'Entry',
    examples: [
      {
        path: 'data/train.csv',
        type: 'file',
        size: 5,
        modifiedAt: '2026-01-02T03:04:05.678Z',
        changedAt: '2026-01-02T03:04:05.678Z',
        etag: '1b9f-18f3a5c2d1e00000-5',
        mode: 0o644,
      },
    ],
  },
)

export const Limit = (maximum: number, value: number) => Type.Integer({ minimum: 1, maximum, default: value })

export const ArchiveFormat = Type.Union(
  archiveFormats.map((format) => Type.Literal(format)),
  { description: 'the format of an archive' },
)

/** Refers to a schema that was added under its `$id`, and keeps its type. */
export function ref<T extends TSchema>(schema: T, options: { description?: string } = {}) {
  return Type.Unsafe<Static<T>>({ ...options, $ref: `${schema.$id}#` })
}

/** What an answer with a file has: bytes of any media type, which nothing serializes. */
export function fileContent(description: string) {
  return { description, content: { '*/*': { schema: Type.Unsafe<unknown>(bytes) } } }
}

/** The header fields that a call for a file reads, and those of its answers. */
export const fileHeaders = {
  [requestHeaders]: [
    'Range',
    'If-Range',
    'If-Match',
    'If-None-Match',
    'If-Modified-Since',
    'If-Unmodified-Since',
  ] satisfies HeaderName[],
  [responseHeaders]: {
    '2xx': ['ETag', 'Last-Modified', 'Accept-Ranges', 'Content-Range', 'Content-Disposition'],
    304: ['ETag', 'Last-Modified', 'Accept-Ranges', 'Content-Disposition'],
    307: ['Location'],
    '4xx': ['Accept-Ranges', 'Content-Range'],
  } satisfies Record<string, HeaderName[]>,
}

export const notModified = Type.Null({ description: 'what the client has is still right' })

/** What any route may answer, by class of status. */
export const problemResponses = {
  '4xx': ref(ProblemDocument, { description: 'a problem with the request' }),
  '5xx': ref(ProblemDocument, { description: 'a problem of the service or its storage' }),
}
