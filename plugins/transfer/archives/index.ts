import { createGzip, createZstdCompress } from 'node:zlib'
import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import type { Rate } from '../../access/rates.ts'
import type { VfolderFiles } from '../../vfolders/files.ts'
import { asHeader, contentDisposition } from '../downloads/content-disposition.ts'
import { stream } from '../downloads/stream.ts'
import { compress } from './compress.ts'
import { type Loaded, loadContents } from './contents.ts'
import { checkLength, lengthOf } from './length.ts'
import { assertPresent, type Member, membersOf, watchDirectories } from './members.ts'
import type { Selection } from './selection.ts'
import { createTarLength, packTar } from './tar.ts'
import { createZipLength, packZip } from './zip.ts'

declare module 'fastify' {
  interface FastifyReply {
    /** Answers a GET or HEAD with an archive of the selected entries, made while it is sent. */
    sendArchive(files: VfolderFiles, selection: Selection, options: ArchiveOptions): Promise<FastifyReply>
  }
}

export const archiveFormats = ['zip', 'tar', 'tar.gz', 'tar.zst'] as const
export type ArchiveFormat = (typeof archiveFormats)[number]

export interface ArchiveOptions {
  format: ArchiveFormat
  /** Of a zip: deflates its files. */
  deflate: boolean
  /** The name to save as. */
  filename: string
  rate?: Rate | undefined
}

/** How a format is made, and how long it becomes where that can be known. */
interface Packing {
  type: string
  pack(members: AsyncIterable<Loaded>): AsyncIterable<Buffer>
  length?: () => { add(member: Member): void; total(): number }
}

const chunkSize = 128 * 1024

function packingOf({ format, deflate }: ArchiveOptions): Packing {
  switch (format) {
    case 'zip': {
      const zip = { type: 'application/zip', pack: (members: AsyncIterable<Loaded>) => packZip(members, { deflate }) }
      return deflate ? zip : { ...zip, length: createZipLength }
    }
    case 'tar':
      return { type: 'application/x-tar', pack: packTar, length: createTarLength }
    case 'tar.gz':
      return {
        type: 'application/gzip',
        pack: (members) => compress(packTar(members), createGzip({ chunkSize })),
      }
    case 'tar.zst':
      return {
        type: 'application/zstd',
        pack: (members) => compress(packTar(members), createZstdCompress({ chunkSize })),
      }
  }
}

async function sendArchive(
  this: FastifyReply,
  files: VfolderFiles,
  selection: Selection,
  options: ArchiveOptions,
): Promise<FastifyReply> {
  const signal = this.request.abortSignal
  const { type, pack, length } = packingOf(options)
  await assertPresent(files, selection, signal)
  const total = length && (await lengthOf(membersOf(files, selection, signal), length()))

  this.headers({
    'accept-ranges': 'none',
    'cache-control': 'private, no-store',
    'content-disposition': asHeader(contentDisposition('attachment', options.filename)),
    'content-type': type,
    'x-content-type-options': 'nosniff',
  })
  if (total !== undefined) this.header('content-length', total)
  if (this.request.method === 'HEAD') return this.send()

  const members = watchDirectories(files, membersOf(files, selection, signal), signal)
  const packed = pack(loadContents(files, members, signal))
  const chunks = total === undefined ? packed : checkLength(total, packed)
  const sent = { kind: 'archive', volume: files.volume.name } as const
  return stream(this, this.request.paced(chunks, options.rate), sent, 'the archive could not be completed')
}

/** The name of an archive with its format's extension; without a name, that of the selected directory. */
export function archiveName({ path }: Selection, format: ArchiveFormat, filename?: string): string {
  const name = filename ?? (path.slice(path.lastIndexOf('/') + 1) || 'archive')
  return name.endsWith(`.${format}`) ? name : `${name}.${format}`
}

/** Packs entries into archives and sends them. */
export default fp(
  async (app) => {
    app.decorateReply('sendArchive', sendArchive)
  },
  { name: 'archives', dependencies: ['downloads', 'pacing', 'vfolders', 'connection-abort'] },
)
