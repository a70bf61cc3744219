import type { Attributes } from './entry.ts'

/** The members of `Attributes`, in the order in which a thread gives them, as 64-bit floats: objects would cost more. */
export const attributes = ['mode', 'size', 'ino', 'mtimeMs', 'ctimeMs'] as const

/** Those of the entry at `index`; undefined when they are zero, since it is gone. */
export function attributesAt(numbers: Float64Array, index: number): Attributes | undefined {
  const at = index * attributes.length
  const mode = numbers[at] ?? 0
  if (mode === 0) return undefined
  const [size = 0, ino = 0, mtimeMs = 0, ctimeMs = 0] = [
    numbers[at + 1],
    numbers[at + 2],
    numbers[at + 3],
    numbers[at + 4],
  ]
  return { mode, size, ino, mtimeMs, ctimeMs }
}
