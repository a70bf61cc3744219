import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { Entry, FolderParams, Path, problemResponses, ref, Uuid } from '../schemas.ts'

const target = {
  from: Path,
  to: Path,
  toFolder: Type.Optional({
    ...Uuid,
    description: 'the vfolder that `to` is in, on the same volume; default: this one',
  }),
  overwrite: Type.Boolean({ default: false, description: 'replace a file of that name' }),
}

const Background = Type.Boolean({ default: false, description: 'by a job, which is answered at once' })

const jobQueued = Type.Object({ job: ref(Job) }, { description: 'with `background`: the job that does it' })

/** Routes that change entries, and one that describes an entry. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  const openOther = async (id: string, other: string) => (other === id ? undefined : app.vfolders.open(other))

  app.get(
    '/folders/:id/files/stat',
    {
      schema: {
        tags: ['files'],
        operationId: 'statEntry',
        summary: 'Describe one entry',
        params: FolderParams,
        querystring: Type.Object({ path: Path }),
        response: { 200: ref(Entry), ...problemResponses },
      },
    },
    async ({ params, query, abortSignal }) => (await app.vfolders.files(params.id)).stat(query.path, abortSignal),
  )

  app.post(
    '/folders/:id/files/mkdir',
    {
      config: { audit: 'directory.create' },
      schema: {
        tags: ['files'],
        operationId: 'createDirectory',
        summary: 'Create a directory, and those that lead to it',
        description: '201 when it is new, 200 when it was there.',
        params: FolderParams,
        body: Type.Object({ path: Path }, { additionalProperties: false }),
        response: { 200: ref(Entry), 201: ref(Entry), ...problemResponses },
      },
    },
    async ({ params, body, abortSignal }, reply) => {
      const { entry, created } = await (await app.vfolders.files(params.id)).mkdir(body.path, abortSignal)
      return reply.code(created ? 201 : 200).send(entry)
    },
  )

  app.post(
    '/folders/:id/files/move',
    {
      config: { audit: 'entry.move' },
      schema: {
        tags: ['files'],
        operationId: 'moveEntry',
        summary: 'Rename an entry',
        description:
          'An existing directory is never replaced, a file only with `overwrite`. With `background` a job moves it, and the ' +
          'same call gets the same job until that has ended.',
        params: FolderParams,
        body: Type.Object({ ...target, background: Background }, { additionalProperties: false }),
        response: { 200: ref(Entry), 202: jobQueued, ...problemResponses },
      },
    },
    async ({ params, body: { from, to, toFolder = params.id, overwrite, background }, abortSignal: signal }, reply) => {
      if (background) {
        const job = await app.background.move(params.id, { from, to, toFolder, overwrite, signal })
        return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
      }
      const files = await app.vfolders.files(params.id)
      return files.move(from, to, { overwrite, signal, target: await openOther(params.id, toFolder) })
    },
  )

  app.post(
    '/folders/:id/files/copy',
    {
      config: { audit: 'entry.copy' },
      schema: {
        tags: ['files'],
        operationId: 'copyEntry',
        summary: 'Copy a file, or a directory with all that is in it',
        description:
          'A file, or a directory on a volume with `copyTree`, is there whole when the answer comes: 201. A directory ' +
          'on any other volume is copied by a job: 202. Nothing of it is seen before all of it is copied; the same ' +
          'call gets the same job until that has ended.',
        params: FolderParams,
        body: Type.Object(target, { additionalProperties: false }),
        response: {
          201: ref(Entry, { description: 'the copy' }),
          202: Type.Object({ job: ref(Job) }, { description: 'the job that makes the copy' }),
          ...problemResponses,
        },
      },
    },
    async ({ params, body: { from, to, toFolder = params.id, overwrite }, abortSignal: signal }, reply) => {
      const source = { folder: params.id, path: from }
      const copied = await app.copies.copy(source, { folder: toFolder, path: to }, { overwrite, signal })
      if ('entry' in copied) return reply.code(201).send(copied.entry)
      return reply.code(202).header('location', `/jobs/${copied.job.id}`).send(copied)
    },
  )

  app.post(
    '/folders/:id/files/delete',
    {
      bodyLimit: 16 * 1024 * 1024,
      config: { audit: 'entry.delete' },
      schema: {
        tags: ['files'],
        operationId: 'deleteEntries',
        summary: 'Delete many entries',
        description:
          'In order; what is not there is told as `missing` and is no error. The first error ends it, and its problem ' +
          'has `deleted` and `missing` with what was done before. With `TRASH_RETENTION_SECONDS` the entries can be ' +
          'restored for so long. With `background` a job deletes them.',
        params: FolderParams,
        body: Type.Object(
          {
            paths: Type.Array(Path, { minItems: 1, maxItems: 10_000 }),
            recursive: Type.Boolean({ default: false, description: 'delete directories with what is in them' }),
            permanent: Type.Boolean({ default: false, description: 'not into the trash' }),
            background: Background,
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object(
            { deleted: Type.Array(Type.String()), missing: Type.Array(Type.String()) },
            { examples: [{ deleted: ['data/train.csv'], missing: [] }] },
          ),
          202: jobQueued,
          ...problemResponses,
        },
      },
    },
    async ({ params, body: { paths, recursive, permanent, background }, abortSignal: signal }, reply) => {
      if (background) {
        const job = await app.background.delete(params.id, { paths, recursive, permanent })
        return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
      }
      return app.trash.isOn && !permanent
        ? app.trash.put(params.id, paths, { recursive, signal })
        : (await app.vfolders.files(params.id)).remove(paths, { recursive, signal })
    },
  )
}

export default routes
