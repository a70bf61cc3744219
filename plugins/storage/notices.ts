import type { Command } from '../../backends/definition.ts'
import type { BackendCall } from '../../backends/layers/call.ts'
import type { Report } from '../../backends/layers/measure.ts'
import { Beginning, Notice } from '../../lib/notice.ts'

// The volume is named first.

/** A backend is called. */
export const callBegun = new Beginning<[volume: string, call: BackendCall]>()

/** A call of a backend has its answer, or has failed. */
export const callEnded = new Notice<[volume: string, ...Parameters<Report>]>()

/** So many calls waited for their turn already that one was refused. */
export const callRefused = new Notice<[volume: string]>()

/** The storage of a volume counts as away, or not any more. */
export const circuitTurned = new Notice<[volume: string, isOpen: boolean]>()

/** A backend's server has answered a command, or has not. */
export const commandEnded = new Notice<[volume: string, command: Command]>()
