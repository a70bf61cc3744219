import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../../../lib/problems.ts'
import { type Refusal, requestRefused } from './notices.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** What a client may ask for in a minute. Each is undefined where there is no such limit. */
    requestRates: {
      /** Counts a request for its client's address; of IPv6, for the network. @throws {Problem} `too_many_requests` */
      ofAddress: ((request: FastifyRequest) => Promise<void>) | undefined
      /** Counts it for a signed URL, named by `key`. @throws {Problem} `too_many_requests` */
      ofUrl: ((request: FastifyRequest, key: string) => Promise<void>) | undefined
    }
  }
}

/** So many addresses, or URLs, are counted at once; beyond that the one that was seen longest ago begins anew. */
const mostCounted = 100_000
const minute = 60_000

/** Limits how often clients may ask, by address and by signed URL. */
export default fp(
  async (app) => {
    const { urlRequestsPerMinute, addressRequestsPerMinute } = app.config
    if (urlRequestsPerMinute === undefined && addressRequestsPerMinute === undefined) {
      app.decorate('requestRates', { ofAddress: undefined, ofUrl: undefined })
      return
    }
    // Loaded only where it is used.
    const { default: rateLimit } = await import('@fastify/rate-limit')
    await app.register(rateLimit, { global: false, cache: mostCounted, timeWindow: minute })
    const keys = new WeakMap<FastifyRequest, string>()

    const limit = (max: number, refusal: Refusal, whose: string, more: object) => {
      const count = app.createRateLimit({ max, ...more })
      return async (request: FastifyRequest): Promise<void> => {
        const counted = await count(request)
        if (counted.isAllowed || !counted.isExceeded) return
        requestRefused.give(refusal)
        const seconds = String(counted.ttlInSeconds)
        throw new Problem('too_many_requests', `${whose} may ask ${max} times a minute; ask again in ${seconds} s.`, {
          headers: { 'retry-after': seconds },
        })
      }
    }

    const keyGenerator = (request: FastifyRequest) => keys.get(request) ?? ''
    const countUrl =
      urlRequestsPerMinute === undefined
        ? undefined
        : limit(urlRequestsPerMinute, 'url', 'The signed URL', { keyGenerator })
    app.decorate('requestRates', {
      ofAddress:
        addressRequestsPerMinute === undefined
          ? undefined
          : limit(addressRequestsPerMinute, 'address', 'The address of the client', {}),
      ofUrl:
        countUrl &&
        (async (request, key) => {
          keys.set(request, key)
          await countUrl(request)
        }),
    })
  },
  { name: 'overload-rates', dependencies: ['config', 'errors'] },
)
