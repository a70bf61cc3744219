import fp from 'fastify-plugin'
import { idleSecondsOf } from '../plugins/storage/volumes.ts'

/**
 * Frees what dead and expired uploads left behind: their bytes on the volumes, and the room that they had reserved.
 */
export default fp(
  async (app) => {
    const { uploadCleanupIntervalSeconds } = app.config
    const idleSeconds = idleSecondsOf(app.config)

    async function cleanUp(signal: AbortSignal): Promise<void> {
      await app.quotas.endAbandoned()
      await app.uploads.cleanUp()
      for (const { name, backend } of app.volumes.all()) {
        try {
          const removed = await backend.collectGarbage({ idleSeconds, signal })
          if (removed.files > 0) app.log.info({ volume: name, ...removed }, 'leftovers removed')
        } catch (error) {
          // One volume that is away must not keep the others from being cleaned.
          signal.throwIfAborted()
          app.log.error({ volume: name, err: error }, 'the cleanup of a volume failed')
        }
      }
    }

    app.addHook('onReady', async () => {
      app.schedule('cleanup-expired-uploads', uploadCleanupIntervalSeconds, cleanUp)
    })
  },
  {
    name: 'cleanup-expired-uploads',
    dependencies: ['scheduler', 'volumes', 'quotas', 'uploads', 'config'],
  },
)
