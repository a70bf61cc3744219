import { extname } from 'node:path'
import { contentType } from 'mime-types'
import { contentDisposition } from './content-disposition.ts'

export interface Presentation {
  disposition: 'attachment' | 'inline'
  filename: string
  /** Absent: that of the name's extension. */
  contentType?: string | undefined
}

/** The header fields, as text, by which a client knows what to do with a file. */
export function presentationHeaders({ disposition, filename, contentType: type }: Presentation) {
  return {
    contentType: type ?? (contentType(extname(filename)) || 'application/octet-stream'),
    contentDisposition: contentDisposition(disposition, filename),
  }
}
