import type { FastifyInstance } from 'fastify'
import type { Setting } from '../../../plugins/config.ts'
import { answerFileError } from '../file-errors.ts'
import { pathIn, tellAudit } from '../named.ts'
import { Refusal } from '../refusal.ts'
import files from './files.ts'
import objects from './objects.ts'
import { createStorages } from './storages.ts'
import upload from './upload.ts'

/** Artifact storages of Backend.AI's manager, mapped to our volumes. What fills them from elsewhere is not here. */
export default async function artifacts(app: FastifyInstance, { setting }: { setting: Setting | undefined }) {
  app.setErrorHandler(answerFileError)
  refuseAll(app, '/v1/registries/*', 'Artifacts are not fetched from registries here.')
  if (setting === undefined) {
    refuseAll(app, '/v1/storages/*', 'BACKEND_AI_ARTIFACTS names no storage for artifacts.')
    return
  }
  const storages = createStorages(app, setting)
  app.addHook('preHandler', (request, _reply, done) => {
    const { storage, bucket } = Object(request.params)
    const { key, filepath = key } = Object(request.body ?? request.query)
    tellAudit(request, { ...storages.find({ storage, bucket }), path: pathIn(filepath) })
    done()
  })
  for (const routes of [objects, files, upload]) await app.register(routes, { storages })
}

function refuseAll(app: FastifyInstance, url: string, msg: string): void {
  app.route({
    method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    url,
    config: { readsBody: true },
    onRequest: async () => {
      const type = 'https://api.backend.ai/probs/storage/not-implemented'
      const body = { type, title: 'Not Implemented', error_code: 'vfolder_access_not-implemented', msg }
      throw new Refusal('capability_missing', msg, { status: 501, body })
    },
    handler: () => {},
  })
}
