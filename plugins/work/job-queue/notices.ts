import { Beginning, Notice } from '../../../lib/notice.ts'
import type { attemptOutcomes } from '../../storage/database/tables.ts'
import type { JobRow } from './job.ts'

/** `repeated`: it failed, and is tried again; `interrupted`: the process closes, or was cut off; `lost`: another has it. */
export type AttemptEnd = (typeof attemptOutcomes)[number]

/** An attempt begins in this process, in the context of its job. */
export const attemptBegun = new Beginning<[JobRow]>()

/** An attempt of this process has ended. */
export const attemptEnded = new Notice<[kind: string, end: AttemptEnd, seconds: number]>()

/** An attempt of this process has written down how far it is. */
export const progressSaved = new Notice<[row: JobRow]>()

/** This process goes on with jobs whose process died, or had let go of them. */
export const takenOver = new Notice<[kind: string, jobs: number]>()
