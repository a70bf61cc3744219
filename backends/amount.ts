import type { Amount, Entry, Written } from './backend.ts'

export const nothing: Amount = Object.freeze({ files: 0, bytes: 0 })

export function isNothing({ files, bytes }: Amount): boolean {
  return files === 0 && bytes === 0
}

/** Usage counts files and symlinks, and the bytes of files. */
export function amountOf({ type, size }: Pick<Entry, 'type' | 'size'>): Amount {
  return { bytes: type === 'file' ? size : 0, files: type === 'directory' ? 0 : 1 }
}

/** By how much a write changed the usage. */
export function growthOf({ entry, replaced }: Written): Amount {
  return { bytes: amountOf(entry).bytes - (replaced ?? 0), files: replaced === undefined ? 1 : 0 }
}

/** Changes `total`. */
export function add(total: Amount, by: Amount): void {
  total.bytes += by.bytes
  total.files += by.files
}

/** Changes `total`. */
export function subtract(total: Amount, by: Amount): void {
  total.bytes -= by.bytes
  total.files -= by.files
}

export function sum(a: Amount, b: Amount): Amount {
  return { files: a.files + b.files, bytes: a.bytes + b.bytes }
}

export function difference(a: Amount, b: Amount): Amount {
  return { files: a.files - b.files, bytes: a.bytes - b.bytes }
}

export function atLeastNothing({ bytes, files }: Amount): Amount {
  return { bytes: Math.max(0, bytes), files: Math.max(0, files) }
}
