import fp from 'fastify-plugin'
import managerAuth from './manager-auth.ts'
import signedUrls from './signed-urls.ts'

/** Who may do what: the manager by its token, a client by a signed URL. */
export default fp(
  async (app) => {
    await app.register(managerAuth)
    await app.register(signedUrls)
  },
  { name: 'access', dependencies: ['config'] },
)
