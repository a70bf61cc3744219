import type { FastifyInstance } from 'fastify'
import { parseQuotaScope } from '../../../lib/vfid.ts'
import type { Facts } from '../../../plugins/work/audit/facts.ts'
import { entriesIn, folderIn, pathIn, readable, tellAudit } from '../named.ts'

/** Tells the audit trail what a call names, whatever comes of it. */
export function tellWhatIsNamed(app: FastifyInstance): void {
  const volumeIn = (name: unknown) => app.volumes.all().find((volume) => volume.name === name)?.name
  app.addHook('preHandler', (request, _reply, done) => {
    const body = Object(request.body)
    const { volume = body.dst_volume ?? body.src_volume } = body
    tellAudit(request, { ...namedIn(body), volume: volumeIn(volume) })
    done()
  })
}

/** The members have the same meaning in all calls. */
function namedIn(body: Record<string, unknown>): Partial<Facts> {
  const { vfid = body.virtual_folder_id, relpath, relpaths = relpath, files = relpaths } = body
  const { src_relpath: source = relpath, dst_relpath: target, new_name: name } = body
  const folder = folderIn(vfid)
  if (body.qsid !== undefined) return { subject: readable(body.qsid, (text) => parseQuotaScope(text, 'qsid')) }
  if (body.dst_vfid !== undefined) return { folder: folderIn(body.dst_vfid), subject: folderIn(body.src_vfid) }
  if (target === undefined && name === undefined) return { folder, ...entriesIn(files) }
  const from = pathIn(source)
  const to = pathIn(name === undefined ? target : `${from}/../${name}`)
  return { folder, path: to, subject: folder && from && `${folder}/${from}` }
}
