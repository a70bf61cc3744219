import { join } from 'node:path'
import { Cluster } from '../test/postgres/cluster.ts'
import { searchPath } from '../test/tools.ts'
import { installed } from './debian.ts'
import type { Bench } from './row.ts'

/** The URL of an empty database, on a PostgreSQL that ends with the row. It flushes as by default. */
export async function startPostgres(bench: Bench): Promise<string> {
  await installed('postgres', 'postgresql', searchPath)
  const cluster = await Cluster.create(join(bench.directory, 'cluster'))
  bench.cleanup(() => cluster.stop('SIGQUIT'))
  await cluster.start('fsync=on')
  return cluster.url('postgres')
}
