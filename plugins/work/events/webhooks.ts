import fp from 'fastify-plugin'
import type { Facts } from '../audit/facts.ts'
import type { Event } from './event.ts'

/** Tells the endpoints of `WEBHOOK_URLS`. */
export default fp(
  async (app) => {
    const { audit, log } = app
    const { webhookUrls, webhookPrivateNetworks, webhookTimeoutSeconds: timeoutSeconds } = app.config
    if (webhookUrls === undefined && webhookPrivateNetworks === '') return
    const [{ createWebhook }, { parseWebhooks }] = await Promise.all([
      import('./webhook.ts'),
      import('./webhook-settings.ts'),
    ])
    const { endpoints, secrets, networks } = parseWebhooks(app.config)
    for (const endpoint of endpoints) {
      const onTold = (event: Event, error?: unknown) => {
        // Not when there is no room for what has to be written down.
        if (!audit.isReady({ isRead: true })) return
        audit.keep(audit.rows(factsOf(event, endpoint.name, error), { request_id: event.requestId }))
      }
      app.events.tell(createWebhook({ ...endpoint, secrets, networks, timeoutSeconds, log, onTold }))
    }
  },
  { name: 'webhooks', dependencies: ['config', 'events', 'audit'] },
)

function factsOf({ type, folder, volume, originRequestId }: Event, target: string, error: unknown): Facts {
  const where = { folder: folder ?? undefined, volume: volume ?? undefined }
  const about = { action: 'event.deliver', ...where, origin: originRequestId ?? undefined } as const
  if (error === undefined) return { ...about, subject: `${type} to ${target}` }
  const reason = error instanceof Error ? error.message : String(error)
  return { ...about, outcome: 'failed', subject: `${type} to ${target}: ${reason}` }
}
