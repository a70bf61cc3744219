import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import t from 'tap'
import { call, openS3 } from '../s3.ts'

t.test('a page without keys in the middle of a listing is not its end', async (t) => {
  const folder = randomUUID()
  const pages: Record<string, string> = {
    '': `<Contents><Key>vfolders/${folder}/a</Key><Size>1</Size></Contents><IsTruncated>true</IsTruncated>
      <NextContinuationToken>first</NextContinuationToken>`,
    [`after vfolders/${folder}/a`]:
      '<IsTruncated>true</IsTruncated><NextContinuationToken>second</NextContinuationToken>',
    second: `<Contents><Key>vfolders/${folder}/b</Key><Size>2</Size></Contents><IsTruncated>false</IsTruncated>`,
  }
  const server = createServer(({ url }, answer) => {
    const { searchParams } = new URL(url!, 'http://localhost')
    const after = searchParams.get('start-after')
    const page = searchParams.get('continuation-token') ?? (after === null ? '' : `after ${after}`)
    answer.setHeader('content-type', 'application/xml')
    answer.end(`<ListBucketResult>${pages[page]}</ListBucketResult>`)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { open } = await openS3({ endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, prefix: '' })
  const backend = await open()
  t.teardown(async () => {
    await backend.close()
    server.close()
  })
  t.same(await backend.count!(folder, call), { files: 2, bytes: 3 })
})

t.test('a directory at the end of a page is listed once, whatever it has in it', async (t) => {
  const { options, open } = await openS3()
  const { accessKeyId, secretAccessKey, bucket, prefix, endpoint, region } = options
  const credentials = { accessKeyId: accessKeyId!, secretAccessKey: secretAccessKey! }
  const client = new S3Client({ endpoint: endpoint!, region, forcePathStyle: true, credentials })
  const backend = await open()
  t.teardown(async () => {
    await backend.close()
    client.destroy()
  })
  const folder = randomUUID()
  await backend.createFolder(folder, call)
  // With the vfolder's marker the directory is the thousandth.
  const files = Array.from({ length: 998 }, (_, index) => `a${String(index).padStart(3, '0')}`)
  const puts = [...files, 'b/\u{10ffff}', 'b/\u{10ffff}\u{10ffff}', 'c'].values()
  const work = async () => {
    for (const path of puts) {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/vfolders/${folder}/${path}`, Body: '' }))
    }
  }
  await Promise.all(Array.from({ length: 32 }, work))
  const listed: string[] = []
  for await (const { path } of backend.list(folder, call)) listed.push(path)
  t.same(listed, [...files, 'b', 'c'])
})
