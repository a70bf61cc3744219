import fp from 'fastify-plugin'
import archives from './archives/index.ts'
import downloads from './downloads/index.ts'
import pacing from './pacing.ts'
import transfers from './transfers.ts'

/** Bytes to and from clients. */
export default fp(
  async (app) => {
    await app.register(transfers)
    await app.register(pacing)
    await app.register(downloads)
    await app.register(archives)
    // An aborted request still removes what it staged and counts what it stored. Hooks run in the reverse order of the
    // plugins, so this one before the database and the volumes close.
    app.addHook('onClose', async () => {
      await app.requestsSettled()
    })
  },
  { name: 'transfer', dependencies: ['request', 'access', 'vfolders-chapter', 'handlers'] },
)
