import { extname } from 'node:path'
import { contentType } from 'mime-types'
import { contentDisposition } from './content-disposition.ts'

export interface Presentation {
  disposition: 'attachment' | 'inline'
  filename: string
}

/** The header fields, as text, by which a client knows what to do with a file. */
export function presentationHeaders({ disposition, filename }: Presentation) {
  return {
    contentType: contentType(extname(filename)) || 'application/octet-stream',
    contentDisposition: contentDisposition(disposition, filename),
  }
}
