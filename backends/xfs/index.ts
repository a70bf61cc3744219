import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Call } from '../backend.ts'
import { defineBackend } from '../definition.ts'
import { createVolume, type Layout, placesOf, posixProperties } from '../posix/compose.ts'
import { tellLimits } from './limits.ts'
import { projectParts } from './parts.ts'
import { largestProject, Projects } from './projects.ts'
import { XfsQuota } from './xfs-quota.ts'

const options = Type.Object(
  {
    ...posixProperties,
    firstProject: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: largestProject,
        default: 1_000_000,
        description: 'vfolders have this project and those above; nobody else may use them on this filesystem',
      }),
    ),
    program: Type.Optional(
      Type.Array(Type.String({ minLength: 1, pattern: '^[^\\0]*$' }), {
        minItems: 1,
        default: ['xfs_quota'],
        description: 'how xfs_quota is run, such as ["sudo", "-n", "xfs_quota"] where the service is not root',
      }),
    ),
  },
  { additionalProperties: false },
)

/** XFS: a vfolder is a project, whose limits the filesystem keeps and whose usage it knows; clones share blocks. */
export const xfs = defineBackend({
  type: 'xfs',
  options,
  places: ({ root }) => placesOf(root),
  async create(context) {
    const { log, signal, numbers } = context
    const { firstProject: first = 1_000_000, program = ['xfs_quota'] } = context.options
    if (numbers === undefined) throw new Error('projects need numbers for the vfolders')
    const tool = new XfsQuota(program, log)
    return createVolume(context, {
      ownPlaces: true,
      parts: async (layout) =>
        projectParts(layout, tool, new Projects(tool, { numbers, first, root: layout.root, signal })),
      tryStorage: (layout) => requireProjects(layout, tool, { signal }),
      wrap: (backend, { root }) => tellLimits(backend, root),
    })
  },
})

/** @throws when the filesystem keeps no limits of projects, or the service may not set them */
async function requireProjects({ root }: Layout, tool: XfsQuota, call: Call): Promise<void> {
  const { counts, limits } = await tool.state(root, call)
  if (!counts || !limits) {
    const lack = counts ? 'counts projects but does not limit them' : 'does not count projects'
    throw new Error(`the filesystem of root ${lack}: it must be XFS, mounted with the option prjquota`)
  }
  // All that is in no project is in this one.
  if ((await tool.quota(0, root, call)) === undefined) {
    throw new Error('xfs_quota may not ask for limits: the service needs CAP_SYS_ADMIN, or program a way to it')
  }
}

export default fp(async (app) => app.backends.register(xfs), { name: 'backend-xfs', dependencies: ['backends'] })
