import { DeleteObjectsCommand, PutObjectCommand, paginateListObjectsV2, type S3Client } from '@aws-sdk/client-s3'

const filesPerDirectory = 1000
const putsAtOnce = 64
const deletionsAtOnce = 8

/** Objects of `bytes` below a prefix, a thousand in a directory. */
export async function putObjects(client: S3Client, bucket: string, prefix: string, objects: number, bytes: number) {
  const Body = Buffer.alloc(bytes, 'x')
  const numbers = Array.from({ length: objects }).keys()
  const work = async () => {
    for (const number of numbers) {
      const [directory, file] = [Math.floor(number / filesPerDirectory), number % filesPerDirectory]
      const Key = `${prefix}directory-${directory}/file-${file}`
      await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }))
    }
  }
  await Promise.all(Array.from({ length: putsAtOnce }, work))
}

export async function deleteObjects(client: S3Client, bucket: string, prefix: string): Promise<void> {
  const pages = paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: prefix })
  const work = async () => {
    for await (const { Contents = [] } of pages) {
      const Objects = Contents.map(({ Key }) => ({ Key }))
      if (Objects.length > 0) await client.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects } }))
    }
  }
  await Promise.all(Array.from({ length: deletionsAtOnce }, work))
}
