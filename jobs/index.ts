import fp from 'fastify-plugin'
import adoptVfolders from './adopt-vfolders.ts'
import cleanupExpiredUploads from './cleanup-expired-uploads.ts'
import cloneVfolder from './clone-vfolder.ts'
import copyDirectory from './copy-directory.ts'
import deleteEntries from './delete-entries.ts'
import deleteVfolder from './delete-vfolder.ts'
import emptyTrash from './empty-trash.ts'
import moveEntry from './move-entry.ts'
import syncQuotas from './sync-quotas.ts'

/** The work on vfolders that takes longer than a request. */
export default fp(
  async (app) => {
    await app.register(adoptVfolders)
    await app.register(cleanupExpiredUploads)
    await app.register(cloneVfolder)
    await app.register(copyDirectory)
    await app.register(deleteEntries)
    await app.register(deleteVfolder)
    await app.register(emptyTrash)
    await app.register(moveEntry)
    await app.register(syncQuotas)
  },
  { name: 'jobs', dependencies: ['work', 'vfolders-chapter'] },
)
