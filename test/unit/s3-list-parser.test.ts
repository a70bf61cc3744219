import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import t from 'tap'
import { parseListings } from '../../backends/s3/middlewares/list-parser.ts'

const object = (key: string, fields: string) => `<Contents><Key>${key}</Key>${fields}</Contents>`
const time = '<LastModified>2026-11-24T10:00:01.123Z</LastModified>'

const answers: Record<string, string> = {
  'plain objects': object(
    'a/b%20c',
    `${time}<ETag>&quot;0123-4&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass>`,
  ),
  'several, with prefixes between': [
    object('a', `${time}<ETag>"1"</ETag><Size>0</Size>`),
    '<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>',
    object('c', `<Size>12345678901</Size>${time}<Owner><ID>x</ID></Owner><ETag>&#34;2&#x22;</ETag>`),
  ].join('\n  '),
  'keys that are only escaped for XML': object('1 &lt; 2 &amp;amp; &#xAC00;', `${time}<ETag>x</ETag><Size>1</Size>`),
  'no objects': '<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>',
  'nothing at all': '',
  'an object without a time': object('a', '<ETag>x</ETag><Size>1</Size>'),
  'a tag with an attribute': object('a', `${time}<Size>1</Size>`).replace('<Contents>', '<Contents xmlns="">'),
  'a tag with a space among others': [
    object('a', `${time}<Size>1</Size>`),
    object('b', `${time}<Size>2</Size>`).replace('<Contents>', '<Contents >'),
  ].join(''),
  'a key as CDATA': object('<![CDATA[k&1]]>', `${time}<Size>1</Size>`),
}

for (const [name, elements] of Object.entries(answers)) {
  t.test(`the SDK reads the same: ${name}`, async (t) => {
    const server = createServer((_request, response) => {
      const head = '<Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken>'
      response.end(`<?xml version="1.0"?><ListBucketResult>${head}${elements}<KeyCount>2</KeyCount></ListBucketResult>`)
    }).listen(0, '127.0.0.1')
    t.teardown(() => server.close())
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as AddressInfo
    const listed = async (change: (client: S3Client) => void) => {
      const client = new S3Client({
        endpoint: `http://127.0.0.1:${port}`,
        region: 'somewhere',
        forcePathStyle: true,
        credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
      })
      t.teardown(() => client.destroy())
      change(client)
      const { Contents, CommonPrefixes, IsTruncated, NextContinuationToken } = await client.send(
        new ListObjectsV2Command({ Bucket: 'b' }),
      )
      const objects = Contents?.map(({ Key, Size, ETag, LastModified }) => ({ Key, Size, ETag, LastModified }))
      return { objects: objects ?? [], CommonPrefixes, IsTruncated, NextContinuationToken }
    }
    const parsed = await listed(parseListings)
    t.same(parsed, await listed(() => {}))
    t.equal(parsed.NextContinuationToken, 'more')
  })
}
