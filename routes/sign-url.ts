import type { FastifyInstance } from 'fastify'
import { Problem } from '../lib/problems.ts'
import type { Permission } from '../plugins/access/signed-urls.ts'

/** The length of a URL that everybody on the way should accept (RFC 9110, section 4.1). */
const maxUrlBytes = 8000

/** How long a URL can be used at most: as long as S3 lets a presigned one live. */
export const longestSeconds = 7 * 24 * 60 * 60

/**
 * A URL that carries its own permission.
 * @param query what stands before the token, ending in `&`
 * @throws {Problem} `selection_too_large`
 */
export function signUrl(app: FastifyInstance, permission: Permission, query = ''): { url: string; token: string } {
  const { operation, folder, path } = permission
  const token = app.signedUrls.sign(permission)
  const place = operation === 'upload' ? 'upload' : 'download'
  const location = path.split('/').map(encodeURIComponent).join('/')
  const url = `${app.publicUrl()}/${place}/${folder}/${location}?${query}token=${token}`
  if (url.length <= maxUrlBytes) return { url, token }
  const detail = `The names of the paths make a URL of ${url.length} bytes, of ${maxUrlBytes} allowed; choose fewer or shorter ones.`
  throw new Problem('selection_too_large', detail, { members: { urlBytes: url.length, maxUrlBytes } })
}
