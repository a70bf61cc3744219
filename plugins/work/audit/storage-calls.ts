import fp from 'fastify-plugin'
import { actorOf, currentContext } from '../../../lib/context.ts'
import { callEnded } from '../../storage/notices.ts'

/** What takes longer to its answer is a part of the story of its request. */
const slowSeconds = 1

/** Other codes are answers, such as that an entry does not exist. */
const faults = new Set([
  'storage_unavailable',
  'storage_access_denied',
  'storage_tool_failed',
  'volume_unavailable',
  'entry_busy',
  'too_many_calls',
  'timeout',
  'internal_error',
])

/** Tells of calls of backends that failed, and of slow ones, where somebody had asked for something. */
export default fp(
  async (app) => {
    const { audit } = app
    if (!audit.isOn) return
    const end = callEnded.take((volume, call, seconds, code) => {
      const hasFailed = code !== undefined && faults.has(code)
      // One that stores bytes is as slow as whoever sends them.
      const isSlow = seconds >= slowSeconds && call.source === undefined
      if (!hasFailed && !isSlow) return
      const context = currentContext()
      if (context === undefined || actorOf(context) === undefined || !audit.isReady({ isRead: true })) return
      const { folder, path, target } = call.names
      const facts = {
        action: `storage.${call.operation}` as const,
        outcome: hasFailed ? ('failed' as const) : ('slow' as const),
        code: hasFailed ? code : undefined,
        volume,
        folder,
        path: path ?? target,
        count: Math.round(seconds * 1000),
        subject: context.job_id,
      }
      audit.keep(audit.rows(facts, context))
    })
    app.addHook('onClose', async () => {
      end()
    })
  },
  { name: 'audited-storage-calls', dependencies: ['audit'] },
)
