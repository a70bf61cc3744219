import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { S3Client } from '@aws-sdk/client-s3'
import { type S3Server, s3Volume } from '../test/ceph/index.ts'
import type { Bench } from './row.ts'
import { s3Client } from './s3-client.ts'
import { deleteObjects } from './s3-objects.ts'
import type { Order } from './s3-peer.ts'
import { type Service, startService, stop } from './service.ts'

export interface S3Bench {
  /** Its only volume is a part of the bucket. */
  service: Service
  server: S3Server
  /** The prefix of the volume's keys. */
  prefix: string
  client: S3Client
  /** The key of a file. */
  keyOf(folder: string, path: string): string
}

/**
 * The service on an S3 server, which is the one that the `S3_*` variables name, else Ceph's gateway; and a client of that
 * server past the service.
 */
export async function startS3(bench: Bench): Promise<S3Bench> {
  const volume = await s3Volume()
  const { backend: _, prefix, ...server } = volume
  const client = s3Client(server)
  bench.cleanup(async () => {
    await deleteObjects(client, server.bucket, prefix)
    client.destroy()
  })
  const service = await startService(bench, { VOLUMES: JSON.stringify({ default: volume }) })
  return { service, server, prefix, client, keyOf: (folder, path) => `${prefix}/vfolders/${folder}/${path}` }
}

/** The bare SDK in a process of its own. A transfer gives the seconds that it took. */
export function startPeer(bench: Bench): (order: Order) => Promise<number> {
  const child = fork(fileURLToPath(new URL('s3-peer.ts', import.meta.url)))
  bench.cleanup(() => stop(child))
  const gone = new AbortController()
  child.once('exit', () => gone.abort(new Error('the peer is gone')))
  return async (order) => {
    child.send(order)
    const [took] = await once(child, 'message', { signal: gone.signal })
    return took
  }
}
