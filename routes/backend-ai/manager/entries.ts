import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { AlreadyExists, BackendError, NotFound } from '../../../backends/errors.ts'
import { brokenRule, type EntryPath, parsePath } from '../../../backends/path.ts'
import { invalid, problems, toProblem, withMembers } from '../../../lib/problems.ts'
import { filenameOf } from '../../../plugins/transfer/downloads/index.ts'
import type { VfolderFiles } from '../../../plugins/vfolders/files.ts'
import { isMissing } from '../../../plugins/vfolders/find-entry.ts'
import { entriesIn, tellAudit } from '../named.ts'
import { parseEntryPath, parseRelpath } from '../relpath.ts'
import { removeEntries } from '../remove-entries.ts'
import { Flag, ofVfolder, readFlag } from '../schemas.ts'
import { findVfolder, openVfolder } from '../target.ts'

/** One path, or up to fifty. */
const Relpaths = Type.Unsafe<string | string[]>({
  type: ['string', 'array'],
  items: { type: 'string' },
  minItems: 1,
  maxItems: 50,
})

/** Calls that change entries. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folder/file/mkdir',
    {
      config: { audit: 'directory.create' },
      schema: { body: ofVfolder({ relpath: Relpaths, parents: Flag(true), exist_ok: Flag(false) }) },
    },
    async (request, reply) => {
      const { body, abortSignal: signal } = request
      const options = {
        parents: readFlag(body.parents, 'parents'),
        existOk: readFlag(body.exist_ok, 'exist_ok'),
        signal,
      }
      const files = await openVfolder(app, body.volume, body.vfid)
      const success: { msg: null; item: string }[] = []
      const failed: { msg: string; item: string }[] = []
      for (const item of [body.relpath].flat()) {
        const refusal = await makeDirectory(files, item, options)
        if (refusal === undefined) success.push({ msg: null, item })
        else failed.push({ msg: refusal.message, item })
        tellAudit(request, { code: refusal && toProblem(refusal).code })
      }
      if (success.length > 0) tellAudit(request, { ...entriesIn(success.map(({ item }) => item)), code: undefined })
      const status = failed.length === 0 ? 200 : success.length === 0 ? 422 : 207
      return reply.code(status).send({ results: { success, failed } })
    },
  )

  app.post(
    '/folder/file/rename',
    {
      config: { audit: 'entry.move' },
      schema: { body: ofVfolder({ relpath: Type.String(), new_name: Type.String() }) },
    },
    async ({ body: { volume, vfid, relpath, new_name: name }, abortSignal: signal }, reply) => {
      const from = parseEntryPath(relpath)
      const rule = name.includes('/') ? 'must be a name without a slash' : brokenRule(name)
      if (rule !== undefined) throw invalid('body', 'new_name', rule)
      const files = await openVfolder(app, volume, vfid)
      const to = inDirectory(from.slice(0, -filenameOf(from).length), name)
      await moveEntry(files, from, to, { overwrite: true, signal })
      return reply.code(204).send()
    },
  )

  app.post(
    '/folder/file/move',
    {
      config: { audit: 'entry.move' },
      schema: { body: ofVfolder({ src_relpath: Type.String(), dst_relpath: Type.String() }) },
    },
    async ({ body, abortSignal: signal }, reply) => {
      const from = parseEntryPath(body.src_relpath)
      const target = parseRelpath(body.dst_relpath)
      const files = await openVfolder(app, body.volume, body.vfid)
      await files.stat(from, signal)
      if (target === '' || (await isDirectory(files, target, signal))) {
        // What is in the directory by that name is not replaced.
        const to = inDirectory(target === '' ? '' : `${target}/`, filenameOf(from))
        await moveEntry(files, from, to, { overwrite: false, signal })
      } else {
        await requireParent(files, target, signal).catch((error: unknown) => {
          throw withMembers(toProblem(error), { paths: [body.dst_relpath] })
        })
        await moveEntry(files, from, target, { overwrite: true, signal })
      }
      return reply.code(204).send()
    },
  )

  app.post(
    '/folder/file/delete',
    {
      bodyLimit: 16 * 1024 * 1024,
      config: { audit: 'entry.delete' },
      schema: { body: ofVfolder({ relpaths: Type.Array(Type.String()), recursive: Flag(false) }) },
    },
    async ({ body, abortSignal: signal }) => {
      const recursive = readFlag(body.recursive, 'recursive')
      const paths = [...new Set(body.relpaths.map(parseEntryPath))]
      const { id } = await findVfolder(app, body.volume, body.vfid)
      const files = await app.vfolders.files(id)
      const removed = recursive ? paths : await withoutDirectories(files, paths, signal)
      await removeEntries(app, id, removed, { recursive, signal })
      return { status: 'ok' }
    },
  )
}

interface MakeOptions {
  parents: boolean
  existOk: boolean
  signal: AbortSignal
}

/** @returns what was wrong, where it is about this directory alone */
async function makeDirectory(
  files: VfolderFiles,
  item: string,
  { parents, existOk, signal }: MakeOptions,
): Promise<BackendError | undefined> {
  try {
    const path = parseRelpath(item)
    if (path !== '' && !parents) await requireParent(files, path, signal)
    const isNew = path !== '' && (await files.mkdir(path, signal)).created
    if (!isNew && !existOk) throw new AlreadyExists(`${item} exists already`)
    return undefined
  } catch (error) {
    const isOfItem = error instanceof BackendError && problems[toProblem(error).code].status < 500
    if (isOfItem) return error
    throw error
  }
}

async function moveEntry(
  files: VfolderFiles,
  from: EntryPath,
  to: EntryPath,
  options: { overwrite: boolean; signal: AbortSignal },
): Promise<void> {
  // It is there already, and a rename onto itself changes nothing.
  if (from === to) await files.stat(from, options.signal)
  else await files.move(from, to, options)
}

/** @param directory empty, or ending in `/` */
function inDirectory(directory: string, name: string): EntryPath {
  return parsePath(directory + name)
}

/** A move creates the directories that lead to the new name, and Backend.AI does not. @throws {NotFound} */
async function requireParent(files: VfolderFiles, path: EntryPath, signal: AbortSignal): Promise<void> {
  const end = path.lastIndexOf('/')
  if (end < 0) return
  const parent = parsePath(path.slice(0, end))
  if (!(await isDirectory(files, parent, signal))) throw new NotFound(`${parent} is not a directory that exists`)
}

/** Also by a symlink that leads to one. */
async function isDirectory(files: VfolderFiles, path: EntryPath, signal: AbortSignal): Promise<boolean> {
  try {
    const { type } = await files.stat(path, signal)
    if (type !== 'symlink') return type === 'directory'
    for await (const _ of files.list({ path, limit: 1, signal })) break
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/** Without `recursive` Backend.AI passes over directories, empty ones too, and what is not there. */
export async function withoutDirectories(
  files: VfolderFiles,
  paths: EntryPath[],
  signal: AbortSignal,
): Promise<EntryPath[]> {
  const kept: EntryPath[] = []
  for (const path of paths) {
    const entry = await files.stat(path, signal).catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw error
    })
    if (entry !== undefined && entry.type !== 'directory') kept.push(path)
  }
  return kept
}

export default routes
