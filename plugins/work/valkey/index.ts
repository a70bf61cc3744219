import fp from 'fastify-plugin'
import { ConfigError } from '../../config.ts'
import { toJob } from '../job-queue/job.ts'
import { progressSaved } from '../job-queue/notices.ts'

const protocols = ['valkey:', 'valkeys:', 'redis:', 'rediss:']

/** Tells Backend.AI's manager of vfolders and tasks by the Valkey that `VALKEY_URL` names. */
export default fp(
  async (app) => {
    const setting = app.config.valkeyUrl
    if (setting === undefined) return
    const url = URL.parse(setting.text)
    if (url === null || !protocols.includes(url.protocol) || !/^(\/\d*)?$/.test(url.pathname)) {
      const rule = 'must be valkey://HOST:PORT, or with valkeys, redis or rediss; a path is the number of a database'
      throw new ConfigError(`${setting.name} ${rule}`, { file: setting.file })
    }
    const { createValkeyTarget } = await import('./target.ts')
    const target = createValkeyTarget(url, app.log)
    app.events.tell(target)
    const end = progressSaved.take((row) => {
      if (row.vfolder !== null) target.tellProgress(toJob(row))
    })
    app.addHook('onClose', async () => end())
  },
  { name: 'valkey', dependencies: ['config', 'events'] },
)
