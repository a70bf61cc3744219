import cluster from 'node:cluster'
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'

/** Longer than a client that asks one thing after the other takes to ask again. */
const milliseconds = 500

/**
 * Has a worker that closes answer for a moment longer, with `Connection: close`. To close a connection that is kept
 * alive while its next request is on the way would lose that request, when another worker could have answered it.
 */
export default fp(
  async (app) => {
    if (cluster.isWorker) app.addHook('preClose', () => sleep(milliseconds))
  },
  { name: 'connection-farewell' },
)
