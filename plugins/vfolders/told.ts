import type { NewEvent } from '../work/events/event.ts'
import type { NewVfolder } from './rows.ts'

// What is told of vfolders and their files: docs/events.md.

export function vfolderCreated({ id, volume }: Pick<NewVfolder, 'id' | 'volume'>, adopted = false): NewEvent {
  return { type: 'vfolder.created', folder: id, volume: volume.name, data: { adopted } }
}

/** `restorable`: it is in the trash. */
export function vfolderDeleted(id: string, { volume, restorable }: { volume?: string; restorable: boolean }): NewEvent {
  return { type: 'vfolder.deleted', folder: id, ...(volume !== undefined && { volume }), data: { restorable } }
}
