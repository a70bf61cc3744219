import { alternately, type Row, seconds } from '../row.ts'
import { startPeer, startS3 } from '../s3.ts'
import { putObjects } from '../s3-objects.ts'

const files = 50_000
const directories = 50

export const s3List: Row = {
  name: 's3-list',
  what: 'a vfolder of 50,000 objects listed as NDJSON, against the pages of ListObjectsV2 by the AWS SDK',
  bound: { atMost: 1.2 },
  async measure(bench) {
    const { service, server, client, keyOf } = await startS3(bench)
    const folder = await service.createFolder()
    const prefix = keyOf(folder, '')
    await putObjects(client, server.bucket, prefix, files, 1)
    const peer = startPeer(bench)
    const url = `${service.url}/folders/${folder}/files?recursive=true`
    const headers = { authorization: service.authorization, accept: 'application/x-ndjson' }
    return alternately(5, 's', {
      ours: () =>
        seconds(async () => {
          const lines = linesIn(Buffer.from(await (await fetch(url, { headers })).arrayBuffer()))
          if (lines !== files + directories) throw new Error(`${lines} entries were listed`)
        }),
      // The vfolder has a marker.
      peer: () => peer({ server, operation: 'list', prefix, objects: files + 1 }),
    })
  },
}

function linesIn(text: Buffer): number {
  let lines = 0
  for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', end + 1)) lines++
  return lines
}
