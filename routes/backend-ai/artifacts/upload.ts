import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { storeForm } from '../../form/store-form.ts'
import { parseEntryPath } from '../relpath.ts'
import { filesUrl } from './files.ts'
import { objectUrl } from './objects.ts'
import type { Place, Storages } from './storages.ts'

const ContentType = Type.Optional(Type.String())

/** A file in a form of its own, whose path the query has: a form has no JSON beside it. */
const routes: FastifyPluginAsyncTypebox<{ storages: Storages }> = async (app, { storages }) => {
  app.removeAllContentTypeParsers()
  await app.register(multipart)

  async function store(request: FastifyRequest, reply: FastifyReply, place: Place, text: string): Promise<void> {
    const path = parseEntryPath(text)
    const { files } = await storages.open(place, request.abortSignal)
    reply.beginTransfer()
    await storeForm(files, request, reply, { directory: undefined, path, maxBytes: app.config.uploadMaxBytes })
  }

  app.post(
    `${objectUrl}/upload`,
    {
      config: { readsBody: true, audit: 'file.store' },
      schema: {
        consumes: ['multipart/form-data'],
        params: Type.Object({ storage: Type.String(), bucket: Type.String() }),
        querystring: Type.Object({ key: Type.String(), content_type: ContentType }),
      },
    },
    async (request, reply) => {
      await store(request, reply, request.params, request.query.key)
      return reply.code(200).send({})
    },
  )

  app.post(
    `${filesUrl}/upload`,
    {
      config: { readsBody: true, audit: 'file.store' },
      schema: {
        consumes: ['multipart/form-data'],
        params: Type.Object({ storage: Type.String() }),
        querystring: Type.Object({ filepath: Type.String(), content_type: ContentType }),
      },
    },
    async (request, reply) => {
      const { filepath } = request.query
      await store(request, reply, { ...request.params, bucket: undefined }, filepath)
      return reply.code(201).send({ filepath })
    },
  )
}

export default routes
