import type { FastifyInstance } from 'fastify'
import { Event } from '../../plugins/work/events/event.ts'
import { JobDetails } from '../../plugins/work/job-queue/attempts.ts'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { auditRequests } from '../audit.ts'
import { Entry } from '../schemas.ts'
import clone from './clone.ts'
import content from './content.ts'
import directUploads from './direct-uploads.ts'
import eventTargets from './event-targets.ts'
import events from './events.ts'
import files from './files.ts'
import { Folder } from './folder-schemas.ts'
import folders from './folders.ts'
import jobEvents from './job-events.ts'
import jobs from './jobs.ts'
import listFiles from './list-files.ts'
import orphans from './orphans.ts'
import quotaScopes from './quota-scopes.ts'
import signedUrls from './signed-urls.ts'
import trash from './trash.ts'
import upload from './upload.ts'
import uploads from './uploads.ts'
import volumes from './volumes.ts'

/** The manager API: every route of this scope, and only of this one, needs a manager token. */
export default async function manager(app: FastifyInstance): Promise<void> {
  for (const schema of [Entry, Event, Folder, Job, JobDetails]) app.addSchema(schema)
  app.addHook('onRequest', app.requireManagerListener)
  app.addHook('onRequest', app.requireManager)
  auditRequests(app)
  app.addHook('onRoute', (route) => {
    if (route.schema) route.schema.security = [{ manager: [] }]
  })

  const ofFolders = [
    folders,
    clone,
    quotaScopes,
    files,
    listFiles,
    trash,
    content,
    upload,
    uploads,
    directUploads,
    signedUrls,
  ]
  for (const routes of [volumes, orphans, ...ofFolders, jobs, jobEvents, events, eventTargets])
    await app.register(routes)
}
