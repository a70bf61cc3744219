import type { FastifyRequest } from 'fastify'
import { parseVfid } from '../../lib/vfid.ts'
import type { Facts } from '../../plugins/work/audit/facts.ts'
import { parseRelpath } from './relpath.ts'

/** Tells the audit trail what this request names, by our names for it, or what came of it. */
export function tellAudit(request: FastifyRequest, facts: Partial<Facts>): void {
  request.auditFacts = { ...request.auditFacts, ...facts }
}

/** What a request names before anybody has looked at it: undefined where it is not well-formed, for which it is refused. */
export function readable<T>(text: unknown, parse: (text: string) => T): T | undefined {
  if (typeof text !== 'string') return undefined
  try {
    return parse(text)
  } catch {
    return undefined
  }
}

export function folderIn(vfid: unknown): string | undefined {
  return readable(vfid, (text) => parseVfid(text).folder)
}

/** The vfolder itself has no path. */
export function pathIn(relpath: unknown): string | undefined {
  return readable(relpath, parseRelpath) || undefined
}

/** Of one entry its path, of several how many. */
export function entriesIn(relpaths: unknown): Pick<Facts, 'path' | 'count'> {
  const [first, ...others] = [relpaths].flat()
  if (others.length === 0) return { path: pathIn(first), count: undefined }
  return { path: undefined, count: others.length + 1 }
}
