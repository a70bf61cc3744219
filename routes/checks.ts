import type { FastifyInstance } from 'fastify'
import type { Health } from '../plugins/storage/volumes.ts'

/** What the service needs for its work: the database, and each volume. */
export async function checkAll(app: FastifyInstance): Promise<(Health & { name: string })[]> {
  const volumes = app.volumes.all().map(async (volume) => ({
    name: `volume:${volume.name}`,
    ...(await app.volumes.health(volume)),
  }))
  return [{ name: 'database', ...(await checkDatabase(app)) }, ...(await Promise.all(volumes))]
}

async function checkDatabase({ database }: FastifyInstance): Promise<Health> {
  return database.health().then(
    () => ({ healthy: true }),
    (error: Error) => ({ healthy: false, reason: error.message }),
  )
}
