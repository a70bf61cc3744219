import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { formatVfid } from '../../../lib/vfid.ts'
import type { Event } from '../events/event.ts'
import type { Job } from '../job-queue/job.ts'
import { type Packable, pack } from './msgpack.ts'

// What Backend.AI's manager, and its web UI by the manager, read of Valkey. Since 26.8 they read an event's members as
// JSON, and before, their values as MessagePack: a message has both.

/** Under which its events know whoever sends them. */
const source = 'storage'

/** A name, and its members in the order in which older managers read them. */
interface Message {
  name: string
  members: Record<string, Packable>
  requestId: string
}

/** An event of a vfolder, to be added to the manager's stream. */
export function toFields({ name, members, requestId }: Message): (string | Buffer)[] {
  const payload = JSON.stringify(members)
  const metadata = JSON.stringify({ request_id: requestId })
  const args = pack(Object.values(members))
  return ['name', name, 'source', source, 'payload', payload, 'metadata', metadata, 'args', args]
}

/** News of a task, for all who listen. */
export function toBroadcast({ name, members, requestId }: Message): string {
  const payload = JSON.stringify(members)
  const metadata = JSON.stringify({ request_id: requestId })
  const args = pack(Object.values(members)).toString('base64')
  return JSON.stringify({ name, source, payload, metadata, args })
}

const MaybeScope = Type.Union([Type.String(), Type.Null()])
const Ended = Type.Object({
  job: Type.Object({
    id: Type.String(),
    kind: Type.String(),
    folder: Type.Union([Type.String(), Type.Null()]),
    state: Type.Union([Type.Literal('succeeded'), Type.Literal('failed'), Type.Literal('cancelled')]),
    error: Type.Optional(Type.Object({ code: Type.String(), detail: Type.String() })),
  }),
  quotaScope: Type.Optional(MaybeScope),
  source: Type.Optional(Type.Object({ folder: Type.String(), quotaScope: MaybeScope })),
})
type Ended = Static<typeof Ended>
const isEnded = TypeCompiler.Compile(Ended)

const taskEnds = { succeeded: 'bgtask_done', failed: 'bgtask_failed', cancelled: 'bgtask_cancelled' } as const

/** What is to be said of an event: nothing of most. */
export function messagesOf({ type, data, requestId }: Event): { event?: Message; task?: Message & { id: string } } {
  if (type !== 'job.ended' || !isEnded.Check(data) || data.job.folder === null) return {}
  const { id, kind, state } = data.job
  const message = messageOf(data)
  const members = vfoldersOf(data)
  const ends = vfolderEnds[kind]
  const name = state === 'succeeded' ? ends?.succeeded : ends?.failed
  const failure = { ...(state !== 'succeeded' && { message }) }
  return {
    ...(name !== undefined && members && { event: { name, members: { ...members, ...failure }, requestId } }),
    task: { id, name: taskEnds[state], members: { task_id: id, message }, requestId },
  }
}

/** Of the jobs that bring a vfolder into another state. */
const vfolderEnds: Record<string, { succeeded: string; failed: string } | undefined> = {
  'delete-vfolder': { succeeded: 'vfolder_deletion_success', failed: 'vfolder_deletion_failure' },
  'clone-vfolder': { succeeded: 'vfolder_clone_success', failed: 'vfolder_clone_failure' },
}

/** A vfolder of which it is not said where it is has never been whole, and nobody asked for its end. */
function vfoldersOf({ job: { folder }, quotaScope, source }: Ended): Record<string, string> | undefined {
  if (folder === null || quotaScope === undefined) return undefined
  const vfid = formatVfid({ folder, quotaScope })
  return source === undefined ? { vfid } : { vfid: formatVfid(source), dst_vfid: vfid }
}

function messageOf({ job: { kind, state, error } }: Ended): string {
  return error === undefined ? `${kind} ${state}` : `${error.code}: ${error.detail}`
}

/** How far a job has come, in files. */
export function progressOf({ id, kind, progress, requestId }: Job): Message {
  const { filesDone, filesTotal } = progress
  const members = {
    task_id: id,
    current_progress: filesDone,
    // What is not known yet is not less than what is done.
    total_progress: filesTotal ?? filesDone,
    message: kind,
  }
  return { name: 'bgtask_updated', members, requestId }
}
