import fp from 'fastify-plugin'
import audit from './audit/index.ts'
import auditedStorageCalls from './audit/storage-calls.ts'
import events from './events/index.ts'
import webhooks from './events/webhooks.ts'
import jobQueue from './job-queue/index.ts'
import processes from './processes.ts'
import scheduler from './scheduler.ts'
import sharedSecrets from './shared-secrets.ts'
import valkey from './valkey/index.ts'

/** What goes on after the answer: who does it, when, and how it is not lost. */
export default fp(
  async (app) => {
    await app.register(processes)
    await app.register(sharedSecrets)
    await app.register(scheduler)
    await app.register(audit)
    await app.register(auditedStorageCalls)
    await app.register(events)
    await app.register(webhooks)
    await app.register(valkey)
    await app.register(jobQueue)
  },
  { name: 'work', dependencies: ['storage'] },
)
