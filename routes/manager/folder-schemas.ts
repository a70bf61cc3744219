import { Type } from '@sinclair/typebox'
import { vfolderStates } from '../../plugins/storage/database/tables.ts'
import { Bytes, Time } from '../schemas.ts'

export const Limited = Type.Union([Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()])

export const QuotaChange = Type.Object(
  { bytes: Type.Optional(Limited), files: Type.Optional(Limited) },
  { additionalProperties: false, description: 'limits; null is none', examples: [{ bytes: 1_000_000_000 }] },
)

export const QuotaScope = Type.String({
  pattern: '^[A-Za-z0-9._:@-]{1,128}$',
  description: 'an owner whose limits span several vfolders',
  examples: ['user:ada'],
})

export const Metadata = Type.Record(Type.String(), Type.Unknown(), {
  maxProperties: 64,
  description: "the manager's own notes, kept as they are",
  examples: [{ name: 'experiments' }],
})

/** A directory that its owner cannot enter is of no use to the service either. */
export const Mode = Type.Integer({
  minimum: 0o700,
  maximum: 0o777,
  description: "permission bits of the vfolder's directory, such as 509 for 0775, where the storage keeps them",
  examples: [509],
})

export const Folder = Type.Object(
  {
    id: Type.String(),
    volume: Type.String(),
    state: Type.Union(vfolderStates.map((state) => Type.Literal(state))),
    quota: Type.Object({ bytes: Limited, files: Limited }),
    quotaScope: Type.Union([QuotaScope, Type.Null()]),
    usage: Type.Object({
      bytes: Bytes,
      files: Type.Integer({ minimum: 0 }),
      syncedAt: Type.Union([Time, Type.Null()], {
        description: 'when the counters were last compared with the storage',
      }),
    }),
    metadata: Metadata,
    createdAt: Time,
    trashedAt: Type.Optional(Type.String({ format: 'date-time', description: 'when it was put into the trash' })),
  },
  {
    $id: 'Folder',
    title: 'Folder',
    examples: [
      {
        id: '0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11',
        volume: 'default',
        state: 'ready',
        quota: { bytes: 1_000_000_000, files: null },
        quotaScope: 'user:ada',
        usage: { bytes: 5, files: 1, syncedAt: null },
        metadata: { name: 'experiments' },
        createdAt: '2026-01-02T03:04:05.678Z',
      },
    ],
  },
)
