import { type TProperties, Type } from '@sinclair/typebox'
import { invalid, type RequestPart } from '../../lib/problems.ts'

/** Members that are not known are passed over: newer managers add some. */
export const OfVolume = Type.Object({ volume: Type.String() })

export function ofVfolder<T extends TProperties>(more: T) {
  return Type.Object({ volume: Type.String(), vfid: Type.String(), ...more })
}

/** A boolean, or a text that stands for one. */
export const Flag = (value: boolean) => Type.Unsafe<boolean | string>({ type: ['boolean', 'string'], default: value })

const truths = new Set(['1', 't', 'true', 'y', 'yes', 'on'])
const falsehoods = new Set(['0', 'f', 'false', 'n', 'no', 'off'])

/** @throws {Problem} `validation_failed` */
export function readFlag(value: boolean | string, field: string, part: RequestPart = 'body'): boolean {
  if (typeof value === 'boolean') return value
  const text = value.toLowerCase()
  if (truths.has(text)) return true
  if (falsehoods.has(text)) return false
  throw invalid(part, field, 'must be a boolean')
}

/** A number of bytes, or a text of its decimal digits. */
export const Size = Type.Unsafe<number | string>({ type: ['integer', 'string'] })

/** @throws {Problem} `validation_failed` */
export function readSize(value: number | string, field: string): number {
  const size = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value
  if (typeof size === 'number' && Number.isSafeInteger(size) && size >= 0) return size
  throw invalid('body', field, 'must be a number of bytes, of at least 0')
}

/** Of a quota scope. */
export const Limits = Type.Object({ limit_bytes: Size })

/** Null and absent are no limit. @throws {Problem} `validation_failed` */
export function readLimit(value: number | string | null | undefined, field: string): number | null {
  return value === null || value === undefined ? null : readSize(value, field)
}
