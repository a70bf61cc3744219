import { randomUUID } from 'node:crypto'
import type { Kysely } from 'kysely'
import type { Engine, Listening } from './engine.ts'
import type { Database, Tables } from './tables.ts'
import { afterCommit } from './transact.ts'

/** How often everybody looks by themselves, since a notification may be lost; more often while none can be heard. */
const lookMilliseconds = 5000
const deafLookMilliseconds = 1000

/**
 * Takes what was told on its channel. Undefined: something may have been, so it looks by itself at what it waits for.
 * That comes every few seconds also where all is well, so nobody needs a timer of their own.
 */
export type OnNotified = (payload: string | undefined) => void

export interface Expectation {
  /** Waits for the next notification that concerns it, or for so long. None is lost in between. */
  next(milliseconds: number): Promise<void>
  end(): void
}

/**
 * Tells the processes that share the database of changes, so that they need not ask for them again and again. Who has
 * made a change is told at once, by the process itself; the others by the database.
 */
export function createNotifications(engine: Engine, db: Kysely<Tables>) {
  const own = randomUUID()
  const channels = new Map<string, Set<OnNotified>>()
  let listening: Listening | undefined
  let timer: NodeJS.Timeout | undefined
  let lookedAt = performance.now()

  function deliver(channel: string, payload: string): void {
    for (const onNotified of channels.get(channel) ?? []) onNotified(payload)
  }

  function onMessage(message: string): void {
    const [from, channel = '', ...rest] = message.split(' ')
    if (from !== own) deliver(channel, rest.join(' '))
  }

  function lookAll(): void {
    lookedAt = performance.now()
    for (const listeners of channels.values()) for (const onNotified of listeners) onNotified(undefined)
  }

  function tick(): void {
    if (!listening?.hears || performance.now() - lookedAt >= lookMilliseconds) lookAll()
  }

  /** @returns what ends it */
  function onNotified(channel: string, listener: OnNotified): () => void {
    const listeners = channels.get(channel) ?? new Set()
    channels.set(channel, listeners.add(listener))
    return () => listeners.delete(listener)
  }

  return {
    /** Tells of a change, in its transaction: it is told when that is committed, and not when it is not. */
    async notify(trx: Database, channel: string, payload: string): Promise<void> {
      await engine.notify(trx, `${own} ${channel} ${payload}`)
      afterCommit(trx, () => deliver(channel, payload))
    },

    onNotified,

    /** For one who waits for changes; to be made before the look that shows whether there is anything to wait for. */
    expect(names: string[], concerns: (payload: string) => boolean, signal?: AbortSignal): Expectation {
      let arrival = Promise.withResolvers<void>()
      let timer: NodeJS.Timeout | undefined
      const arrive = () => arrival.resolve()
      const ends = names.map((name) =>
        onNotified(name, (payload) => {
          if (payload === undefined || concerns(payload)) arrive()
        }),
      )
      signal?.addEventListener('abort', arrive)
      return {
        async next(milliseconds) {
          clearTimeout(timer)
          timer = setTimeout(arrive, signal?.aborted ? 0 : milliseconds)
          await arrival.promise
          clearTimeout(timer)
          arrival = Promise.withResolvers()
        },
        end() {
          clearTimeout(timer)
          signal?.removeEventListener('abort', arrive)
          for (const end of ends) end()
        },
      }
    },

    start(): void {
      listening = engine.listen(db, { onMessage, onHearing: lookAll })
      timer = setInterval(tick, deafLookMilliseconds).unref()
    },

    async stop(): Promise<void> {
      clearInterval(timer)
      await listening?.close()
    },
  }
}
