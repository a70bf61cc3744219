import fp from 'fastify-plugin'

/** Longer than any live upload goes without writing: an idle connection is closed after one idle timeout. */
const idleTimeouts = 2

/**
 * Frees what dead and expired uploads left behind: their bytes on the volumes, and the room that they had reserved.
 */
export default fp(
  async (app) => {
    const { uploadCleanupIntervalSeconds, idleTimeoutSeconds } = app.config

    async function cleanUp(signal: AbortSignal): Promise<void> {
      await app.quotas.endAbandoned()
      await app.uploads.cleanUp()
      for (const { name, backend } of app.volumes.all()) {
        const removed = await backend.collectGarbage({ idleSeconds: idleTimeouts * idleTimeoutSeconds, signal })
        if (removed.files > 0) app.log.info({ volume: name, ...removed }, 'leftovers removed')
      }
    }

    app.addHook('onReady', async () => {
      app.schedule('cleanup-expired-uploads', uploadCleanupIntervalSeconds, cleanUp)
    })
  },
  { name: 'cleanup-expired-uploads', dependencies: ['scheduler', 'volumes', 'quotas', 'uploads'] },
)
