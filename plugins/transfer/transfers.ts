import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { Notice } from '../../lib/notice.ts'
import { Problem } from '../../lib/problems.ts'
import { requestEnded } from '../request/connection/abort.ts'

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Counts this request as an open transfer until its response is complete or its connection is gone; to be called
     * before a byte of a body is read. A HEAD moves no bytes and does not count.
     * @throws {Problem} `too_many_transfers` when the limit is reached
     */
    beginTransfer(): void
    isTransfer: boolean
  }
  interface FastifyInstance {
    /** How many transfers are open in this process. */
    openTransfers(): number
  }
}

/** A client was turned away. */
export const transferRefused = new Notice<[]>()

/** Limits how many clients this process moves bytes for at once. */
export default fp(
  async (app) => {
    const { maxTransfers } = app.config
    let open = 0

    function beginTransfer(this: FastifyReply): void {
      const { request, raw } = this
      if (request.method === 'HEAD' || raw.destroyed) return
      if (open >= maxTransfers) {
        transferRefused.give()
        throw new Problem('too_many_transfers', `This process has ${open} transfers open, as many as it may.`, {
          members: { maxTransfers },
        })
      }
      open++
      this.isTransfer = true
    }

    const endTransfers = requestEnded.take((_request, { isTransfer }) => {
      if (isTransfer) open--
    })
    app.addHook('onClose', async () => endTransfers())

    app.decorate('openTransfers', () => open)
    app.decorateReply('isTransfer', false)
    app.decorateReply('beginTransfer', beginTransfer)
  },
  { name: 'transfers', dependencies: ['config', 'errors', 'connection-abort'] },
)
