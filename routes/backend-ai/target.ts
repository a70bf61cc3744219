import type { FastifyInstance } from 'fastify'
import { Problem } from '../../lib/problems.ts'
import { formatVfid, parseVfid, type Vfid } from '../../lib/vfid.ts'
import type { Vfolder } from '../../plugins/vfolders/rows.ts'

/**
 * The vfolder of that name on a volume. Its scope is a part of its name: by another one it is not found.
 * @throws {Problem} `volume_not_found`, `vfolder_not_found` or `vfolder_cloning`
 */
export async function findVfolder(app: FastifyInstance, volume: string, vfid: string | Vfid): Promise<Vfolder> {
  return find(app, volume, vfid, app.vfolders.ready)
}

/** As it is this moment, also while a clone fills it. @throws {Problem} `volume_not_found` or `vfolder_not_found` */
export async function describeVfolder(app: FastifyInstance, volume: string, vfid: string): Promise<Vfolder> {
  return find(app, volume, vfid, app.vfolders.get)
}

async function find(
  app: FastifyInstance,
  volume: string,
  vfid: string | Vfid,
  look: (id: string) => Promise<Vfolder>,
): Promise<Vfolder> {
  const { name } = app.volumes.get(volume)
  const named = typeof vfid === 'string' ? parseVfid(vfid) : vfid
  const vfolder = await look(named.folder).catch((error: unknown) => {
    throw error instanceof Problem && error.code === 'vfolder_not_found' ? vfolderNotFound(named) : error
  })
  if (vfolder.volume !== name || vfolder.quotaScope !== named.quotaScope) throw vfolderNotFound(named)
  return vfolder
}

/** Its entries. @throws as `findVfolder` does */
export async function openVfolder(app: FastifyInstance, volume: string, vfid: string) {
  return app.vfolders.files((await findVfolder(app, volume, vfid)).id)
}

export function vfolderNotFound(vfid: Vfid): Problem {
  return new Problem('vfolder_not_found', `VFolder not found or not a directory: ${formatVfid(vfid)}`)
}
