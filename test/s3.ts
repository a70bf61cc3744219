import { randomUUID } from 'node:crypto'
import { Value } from '@sinclair/typebox/value'
import { pino } from 'pino'
import type { Backend } from '../backends/backend.ts'
import { circuit } from '../backends/layers/circuit.ts'
import { around } from '../backends/layers/layer.ts'
import { parsePath } from '../backends/path.ts'
import { s3 } from '../backends/s3/index.ts'
import { s3Options } from '../backends/s3/options.ts'
import { s3Volume } from './ceph/index.ts'
import { startFaultyProxy } from './faulty-proxy.ts'

export const call = { signal: new AbortController().signal }

/** The S3 backend with the circuit that a volume puts around it, on a part of a bucket that is its own. */
export async function openS3(more: object = {}, idleSeconds = 240) {
  const { backend: _, ...volume } = await s3Volume()
  const options = Value.Parse(s3Options, { ...volume, ...more })
  const log = pino({ level: 'silent' })
  const open = async () => around(await s3.create({ options, log, idleSeconds, ...call }), [circuit(log)])
  return { options, open }
}

/** The backend, with a vfolder, on a storage behind a proxy. */
export async function startBackendThrough(
  t: { teardown(fn: () => unknown): void },
  more: object = {},
  idleSeconds?: number,
) {
  const { options } = await openS3()
  const proxy = await startFaultyProxy(t, options.endpoint!)
  const { open } = await openS3({ ...options, ...more, endpoint: proxy.url }, idleSeconds)
  const backend = await open()
  t.teardown(() => backend.close())
  const folder = randomUUID()
  await backend.createFolder(folder, call)
  return { backend, proxy, folder, open }
}

/** The paths of all files in a vfolder. */
export async function paths(backend: Backend, folder: string): Promise<string[]> {
  const found: string[] = []
  for await (const { path, type } of backend.list(folder, { ...call, recursive: true })) {
    if (type === 'file') found.push(path)
  }
  return found
}

export async function contentOf(backend: Backend, folder: string, path: string): Promise<Buffer> {
  const file = await backend.read(folder, parsePath(path), call)
  const chunks: Buffer[] = []
  for await (const chunk of file.chunks({ start: 0, end: file.entry.size })) chunks.push(Buffer.from(chunk))
  file.close()
  return Buffer.concat(chunks)
}
