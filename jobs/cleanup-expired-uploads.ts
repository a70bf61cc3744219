import fp from 'fastify-plugin'

/** Longer than any live upload goes without writing: an idle connection is closed after one idle timeout. */
const idleTimeouts = 2

/** Frees what dead uploads and removed vfolders left on the volumes. */
export default fp(
  async (app) => {
    const { uploadCleanupIntervalSeconds, idleTimeoutSeconds } = app.config

    async function cleanUp(signal: AbortSignal): Promise<void> {
      for (const { name, backend } of app.volumes.all()) {
        const removed = await backend.collectGarbage({ idleSeconds: idleTimeouts * idleTimeoutSeconds, signal })
        if (removed.files > 0) app.log.info({ volume: name, ...removed }, 'leftovers removed')
      }
    }

    app.addHook('onReady', async () => {
      app.schedule('cleanup-expired-uploads', uploadCleanupIntervalSeconds, cleanUp)
    })
  },
  { name: 'cleanup-expired-uploads', dependencies: ['scheduler', 'volumes'] },
)
