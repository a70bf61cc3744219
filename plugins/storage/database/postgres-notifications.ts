import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Kysely, sql } from 'kysely'
import type pg from 'pg'
import type { Listener, Listening } from './engine.ts'
import type { Database, Tables } from './tables.ts'

const channel = 'storage_proxy'

/** How often a connection is asked whether it still lives, and how long anything may take on it. */
export const beatMilliseconds = 2000
const greetingMilliseconds = 3000

const firstPauseMilliseconds = 100
const longestPauseMilliseconds = 5000
/** Where there is a connection, but nothing arrives on it, that is so until somebody changes it. */
const unheardPauseMilliseconds = 60_000

export interface ListenOptions {
  db: Kysely<Tables>
  listener: Listener
  /** A connection of its own, whose statements fail after `beatMilliseconds`. */
  createClient(): pg.Client
  onDeaf(error: unknown): void
  onHearing(): void
}

class Unheard extends Error {
  constructor() {
    super('LISTEN has no effect: is there a pooler that does not work by session?')
  }
}

export async function notify(on: Database, message: string): Promise<void> {
  await sql`select pg_notify(${channel}, ${message})`.execute(on)
}

/**
 * LISTEN on a connection of its own. One that was lost is replaced, also when nobody says that it was: it is asked every
 * two seconds.
 */
export function listen({ db, listener, createClient, onDeaf, onHearing }: ListenOptions): Listening {
  const closing = new AbortController()
  const { signal } = closing
  let hears = false
  let isToldDeaf = false
  let pause = firstPauseMilliseconds

  function hear(): void {
    hears = true
    pause = firstPauseMilliseconds
    if (isToldDeaf) onHearing()
    isToldDeaf = false
    listener.onHearing()
  }

  /** Another connection may be the one that hears, behind a pooler that gives a connection to whoever has a statement. */
  async function greet(client: pg.Client): Promise<void> {
    const greeting = randomUUID()
    const heard = Promise.withResolvers<void>()
    client.on('notification', ({ payload }) => payload === greeting && heard.resolve())
    await notify(db, greeting)
    const isHeard = await Promise.race([heard.promise.then(() => true), pauseFor(greetingMilliseconds)])
    if (isHeard !== true) throw new Unheard()
  }

  /** Rejects when the connection is lost, or closed. */
  async function hearOn(client: pg.Client): Promise<never> {
    await client.connect()
    client.on('notification', ({ payload }) => payload !== undefined && listener.onMessage(payload))
    await client.query(`listen ${channel}`)
    await greet(client)
    hear()
    for (;;) {
      await pauseFor(beatMilliseconds)
      await client.query('select 1')
    }
  }

  async function hearOnce(): Promise<void> {
    const client = createClient()
    const lost = Promise.withResolvers<never>()
    client.on('error', lost.reject).on('end', () => lost.reject(new Error('the connection was closed')))
    signal.addEventListener('abort', lost.reject)
    try {
      await Promise.race([hearOn(client), lost.promise])
    } finally {
      hears = false
      signal.removeEventListener('abort', lost.reject)
      // A connection that does not answer is not waited for.
      client.end().catch(() => {})
    }
  }

  async function keepHearing(): Promise<void> {
    while (!signal.aborted) {
      try {
        await hearOnce()
      } catch (error) {
        if (signal.aborted) return
        if (!isToldDeaf) onDeaf(error)
        isToldDeaf = true
        await pauseFor(error instanceof Unheard ? unheardPauseMilliseconds : pause * (0.5 + Math.random()))
        pause = Math.min(2 * pause, longestPauseMilliseconds)
      }
    }
  }

  /** Ends early, without an error, when it is closed. */
  async function pauseFor(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { ref: false, signal }).catch(() => {})
  }

  const running = keepHearing()
  return {
    get hears() {
      return hears
    },
    async close() {
      closing.abort()
      await running
    },
  }
}
