import { once } from 'node:events'
import { Readable } from 'node:stream'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  paginateListObjectsV2,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import type { S3Server } from '../test/ceph/index.ts'
import { seconds } from './row.ts'
import { s3Client } from './s3-client.ts'

// The work of a Node program that speaks to the S3 server itself, in a process of its own: one GET; one multipart
// upload, whose parts are in memory already; or a listing.

/** Answered with the seconds that it took. */
export type Order = { server: S3Server } & (
  | { operation: 'get'; key: string }
  | ({ operation: 'put'; key: string } & Upload)
  | { operation: 'list'; prefix: string; objects: number }
)

interface Upload {
  bytes: number
  partBytes: number
  partsAtOnce: number
}

process.on('message', async (order: Order) => {
  const { server } = order
  const client = s3Client(server)
  const took = await seconds(carryOut)
  client.destroy()
  process.send?.(took)

  function carryOut(): Promise<void> {
    if (order.operation === 'list') return list(order.prefix, order.objects)
    const object = { Bucket: server.bucket, Key: order.key }
    return order.operation === 'get' ? get(object) : put(object, order)
  }

  async function list(prefix: string, objects: number): Promise<void> {
    let listed = 0
    const pages = paginateListObjectsV2({ client }, { Bucket: server.bucket, Prefix: prefix })
    for await (const { Contents = [] } of pages) listed += Contents.length
    if (listed !== objects) throw new Error(`${listed} objects were listed instead of ${objects}`)
  }

  async function get(object: { Bucket: string; Key: string }): Promise<void> {
    const { Body, ContentLength } = await client.send(new GetObjectCommand(object))
    if (!(Body instanceof Readable)) throw new Error('no body')
    let bytes = 0
    Body.on('data', (chunk) => {
      bytes += chunk.length
    })
    await once(Body, 'end')
    if (bytes !== ContentLength) throw new Error(`${bytes} bytes came instead of ${ContentLength}`)
  }

  async function put(object: { Bucket: string; Key: string }, { bytes, partBytes, partsAtOnce }: Upload) {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ ...object, ChecksumAlgorithm: 'CRC32' }))
    const part = Buffer.alloc(partBytes, 'storage-proxy ')
    const parts = Array.from({ length: Math.ceil(bytes / partBytes) }, (_, index) => ({
      PartNumber: index + 1,
      Body: part.subarray(0, Math.min(partBytes, bytes - index * partBytes)),
    }))
    const left = parts.values()
    const stored: { PartNumber: number; ETag?: string; ChecksumCRC32?: string }[] = []
    const work = async () => {
      for (const { PartNumber, Body } of left) {
        const command = new UploadPartCommand({ ...object, UploadId, PartNumber, Body })
        const { ETag, ChecksumCRC32 } = await client.send(command)
        stored[PartNumber - 1] = { PartNumber, ETag, ChecksumCRC32 }
      }
    }
    await Promise.all(Array.from({ length: partsAtOnce }, work))
    await client.send(new CompleteMultipartUploadCommand({ ...object, UploadId, MultipartUpload: { Parts: stored } }))
  }
})
