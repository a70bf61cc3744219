import type { Kysely } from 'kysely'
import type { Listener, Listening } from './engine.ts'
import type { Database, Tables } from './tables.ts'

/** How long what one process tells is on its way to the others; each of them asks so often. */
const intervalMilliseconds = 250

/** A trigger keeps the table short. */
export async function notify(on: Database, message: string): Promise<void> {
  await on.insertInto('notifications').values({ message }).execute()
}

/** SQLite tells nobody of changes, so each process has one query for all that it waits for. */
export function listen(db: Kysely<Tables>, { onMessage, onHearing }: Listener): Listening {
  let last: number | undefined
  let looking: Promise<void> | undefined

  async function look(): Promise<void> {
    if (last === undefined) {
      const newest = db.selectFrom('notifications').select((eb) => eb.fn.max('sequence').as('sequence'))
      last = (await newest.executeTakeFirst())?.sequence ?? 0
      return onHearing()
    }
    const query = db.selectFrom('notifications').selectAll().where('sequence', '>', last).orderBy('sequence')
    const rows = await query.execute()
    // Those in between were removed before this process came to read them.
    const hasMissed = rows[0] !== undefined && rows[0].sequence !== last + 1
    last = rows.at(-1)?.sequence ?? last
    for (const { message } of rows) onMessage(message)
    if (hasMissed) onHearing()
  }

  const timer = setInterval(() => {
    // While the database is away there is nothing to hear.
    looking ??= look()
      .catch(() => {})
      .finally(() => {
        looking = undefined
      })
  }, intervalMilliseconds).unref()

  return {
    hears: true,
    async close() {
      clearInterval(timer)
      await looking
    },
  }
}
