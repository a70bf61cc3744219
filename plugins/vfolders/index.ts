import fp from 'fastify-plugin'
import adoptions from './adoptions.ts'
import background from './background.ts'
import copies from './copies.ts'
import orphans from './orphans.ts'
import quotas from './quotas/index.ts'
import quotaWarnings from './quotas/warnings.ts'
import trash from './trash/index.ts'
import uploads from './uploads/index.ts'
import vfolders from './vfolders.ts'

/** What a vfolder is and does. */
export default fp(
  async (app) => {
    await app.register(quotaWarnings)
    await app.register(quotas)
    await app.register(vfolders)
    await app.register(copies)
    await app.register(uploads)
    await app.register(orphans)
    await app.register(adoptions)
    await app.register(trash)
    await app.register(background)
  },
  { name: 'vfolders-chapter', dependencies: ['storage', 'work'] },
)
