import fp from 'fastify-plugin'
import copies from './copies.ts'
import orphans from './orphans.ts'
import quotas from './quotas/index.ts'
import uploads from './uploads/index.ts'
import vfolders from './vfolders.ts'

/** What a vfolder is and does. */
export default fp(
  async (app) => {
    await app.register(quotas)
    await app.register(vfolders)
    await app.register(copies)
    await app.register(uploads)
    await app.register(orphans)
  },
  { name: 'vfolders-chapter', dependencies: ['storage', 'work'] },
)
