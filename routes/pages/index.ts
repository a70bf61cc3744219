import type { FastifyInstance } from 'fastify'
import { Job } from '../../plugins/work/job-queue/job.ts'
import requests from './requests.ts'

/** What a browser shows to the manager's people; where it asks for a password, that is a manager token. */
export default async function pages(app: FastifyInstance): Promise<void> {
  app.addSchema(Job)
  app.addHook('onRequest', app.requireManagerListener)
  app.addHook('onRequest', app.requireManagerOrAsk)
  app.addHook('onRoute', (route) => {
    if (route.schema) route.schema.security = [{ manager: [] }]
  })
  await app.register(requests)
}
