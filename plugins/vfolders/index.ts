import fp from 'fastify-plugin'
import orphans from './orphans.ts'
import quotas from './quotas/index.ts'
import uploads from './uploads/index.ts'
import vfolders from './vfolders.ts'

/** What a vfolder is and does. */
export default fp(
  async (app) => {
    await app.register(quotas)
    await app.register(vfolders)
    await app.register(uploads)
    await app.register(orphans)
  },
  { name: 'vfolders-chapter', dependencies: ['storage', 'work'] },
)
