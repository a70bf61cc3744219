import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster } from './cluster.ts'

// Starts a PostgreSQL (Debian's package postgresql); ends it when the process is gone that it was started for.
//
//   node test/postgres/keeper.ts DIRECTORY PID

const [directory = '', pid = ''] = process.argv.slice(2)
let cluster: Cluster | undefined

try {
  cluster = await Cluster.create(join(directory, 'cluster'))
  await cluster.start()
  await writeFile(join(directory, 'ready'), String(cluster.port))
  await rename(join(directory, 'ready'), join(directory, 'ready.port'))
} catch (error) {
  await writeFile(join(directory, 'failed'), String(error))
}
while (isAlive(Number(pid))) await sleep(500)
await cluster?.stop('SIGQUIT')
await rm(directory, { recursive: true, force: true, maxRetries: 10 })

function isAlive(id: number): boolean {
  try {
    return process.kill(id, 0)
  } catch (error) {
    // Another user's.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
