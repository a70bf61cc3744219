import fp from 'fastify-plugin'

/** Tells the endpoints of `WEBHOOK_URLS`. */
export default fp(
  async (app) => {
    const { webhookUrls, webhookPrivateNetworks } = app.config
    if (webhookUrls === undefined && webhookPrivateNetworks === '') return
    const [{ createWebhook }, { parseWebhooks }] = await Promise.all([
      import('./webhook.ts'),
      import('./webhook-settings.ts'),
    ])
    const { endpoints, secrets, networks } = parseWebhooks(app.config)
    const { webhookTimeoutSeconds: timeoutSeconds } = app.config
    for (const endpoint of endpoints) {
      app.events.tell(createWebhook({ ...endpoint, secrets, networks, timeoutSeconds, log: app.log }))
    }
  },
  { name: 'webhooks', dependencies: ['config', 'events'] },
)
