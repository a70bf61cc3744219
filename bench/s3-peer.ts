import { once } from 'node:events'
import { Readable } from 'node:stream'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import type { S3Server } from '../test/ceph/index.ts'
import { seconds } from './row.ts'
import { s3Client } from './s3-client.ts'

// What a Node program does that speaks to the S3 server itself, in a process of its own: one GET, or one multipart
// upload, whose parts are in memory already.

/** One transfer; it is answered with the seconds that it took. */
export interface Order {
  server: S3Server
  key: string
  /** To be uploaded; absent: a download. */
  upload?: Upload
}

interface Upload {
  bytes: number
  partBytes: number
  partsAtOnce: number
}

process.on('message', async ({ server, key, upload }: Order) => {
  const client = s3Client(server)
  const object = { Bucket: server.bucket, Key: key }
  const took = await seconds(() => (upload === undefined ? get(object) : put(object, upload)))
  client.destroy()
  process.send?.(took)

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
