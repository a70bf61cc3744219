import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Problem } from '../../lib/problems.ts'
import { conflictRules } from '../../plugins/vfolders/trash/restore.ts'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { fromCursor, toCursor } from '../cursor.ts'
import { Bytes, Entry, FolderParams, Limit, Path, problemResponses, ref, Time, Uuid } from '../schemas.ts'

const ItemParams = Type.Object({ id: Uuid, item: Uuid })

const TrashedEntry = Type.Object(
  {
    id: Uuid,
    path: Type.String({ description: 'where it was' }),
    type: Type.Index(Entry, ['type']),
    bytes: Bytes,
    files: Type.Integer({ minimum: 0, description: 'files and symlinks; of a directory those in it' }),
    countsTowardsQuota: Type.Boolean({ description: 'whether it is in the usage of the vfolder' }),
    deletedAt: Time,
  },
  {
    examples: [
      {
        id: '0198c7a4-1c2d-7e3f-8a4b-5c6d7e8f9a0b',
        path: 'data',
        type: 'directory',
        bytes: 10,
        files: 2,
        countsTowardsQuota: true,
        deletedAt: '2026-01-02T03:04:05.678Z',
      },
    ],
  },
)

/** Entries that were deleted and can be restored. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/folders/:id/trash',
    {
      schema: {
        tags: ['trash'],
        operationId: 'listTrash',
        summary: 'List the entries that can be restored by page, the latest first',
        params: FolderParams,
        querystring: Type.Object({ limit: Limit(1000, 100), cursor: Type.Optional(Type.String()) }),
        response: {
          200: Type.Object({
            entries: Type.Array(TrashedEntry),
            nextCursor: Type.Union([Type.String(), Type.Null()]),
          }),
          ...problemResponses,
        },
      },
    },
    async ({ params, query: { limit, cursor } }) => {
      const before = cursor === undefined ? undefined : positionOf(fromCursor(cursor))
      const found = await app.trash.list(params.id, { limit: limit + 1, before })
      const entries = found.slice(0, limit)
      const last = entries.at(-1)
      const more = found.length > limit && last !== undefined
      return { entries, nextCursor: more ? toCursor(`${Date.parse(last.deletedAt)} ${last.id}`) : null }
    },
  )

  app.post(
    '/folders/:id/trash/:item/restore',
    {
      config: { audit: 'entry.restore' },
      schema: {
        tags: ['trash'],
        operationId: 'restoreEntry',
        summary: 'Move an entry out of the trash',
        description:
          'Where its name is taken, `fail` answers 409 `entry_exists`, `rename` gives it a name beside that one, and ' +
          '`replace` puts what has the name into the trash.',
        params: ItemParams,
        body: Type.Object(
          {
            to: Type.Optional({ ...Path, description: 'default: where it was' }),
            onConflict: Type.Union(
              conflictRules.map((rule) => Type.Literal(rule)),
              { default: 'fail' },
            ),
          },
          { additionalProperties: false },
        ),
        response: { 200: ref(Entry, { description: 'the entry, where it is now' }), ...problemResponses },
      },
    },
    async ({ params: { id, item }, body, abortSignal: signal }) => app.trash.restore(id, item, { ...body, signal }),
  )

  app.delete(
    '/folders/:id/trash/:item',
    {
      config: { audit: 'trash.empty' },
      schema: {
        tags: ['trash'],
        operationId: 'emptyTrashedEntry',
        summary: 'Remove an entry from the trash for good',
        params: ItemParams,
        response: { 202: Type.Object({ job: ref(Job) }), ...problemResponses },
      },
    },
    async ({ params: { id, item } }, reply) => {
      const job = await app.trash.empty(id, item)
      return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
    },
  )

  app.delete(
    '/folders/:id/trash',
    {
      config: { audit: 'trash.empty' },
      schema: {
        tags: ['trash'],
        operationId: 'emptyTrash',
        summary: 'Remove all entries from the trash for good',
        params: FolderParams,
        response: { 202: Type.Object({ job: ref(Job) }), ...problemResponses },
      },
    },
    async ({ params: { id } }, reply) => {
      const job = await app.trash.empty(id)
      return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
    },
  )
}

export default routes

/** @throws {Problem} `invalid_cursor` */
function positionOf(cursor: string): { deletedAt: number; id: string } {
  const [time = '', id = ''] = cursor.split(' ')
  if (!/^\d{1,15}$/.test(time)) {
    throw new Problem('invalid_cursor', 'cursor must be a nextCursor of an earlier answer')
  }
  return { deletedAt: Number(time), id }
}
