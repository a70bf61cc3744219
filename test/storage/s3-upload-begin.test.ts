import t from 'tap'
import { s3Volume } from '../ceph/index.ts'
import { startFaultyProxy } from '../faulty-proxy.ts'
import { type Answer, type Server, startServer } from '../server.ts'

const ways: Record<string, (server: Server, folder: string) => Promise<Response>> = {
  direct: (server, folder) => server.manager('POST', `/folders/${folder}/direct-uploads`, { path: `file`, size: 10 }),
  tus: async (server, folder) => {
    const signed = { operation: 'upload', paths: ['file'] }
    const { tusUrl } = ((await server.ask('POST', `/folders/${folder}/signed-urls`, signed)) as Answer).signedUrls[0]
    return fetch(tusUrl, { method: 'POST', headers: { 'tus-resumable': '1.0.0', 'upload-length': '10' } })
  },
}

for (const [way, begin] of Object.entries(ways)) {
  t.test(`an upload that the storage did not let begin holds no room: ${way}`, async (t) => {
    const volume = await s3Volume()
    const proxy = await startFaultyProxy(t, volume.endpoint)
    const VOLUMES = JSON.stringify({ default: { ...volume, endpoint: proxy.url, maxAttempts: 1 } })
    const server = await startServer(t, { env: { VOLUMES, UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' } })
    const folder = await server.createFolder({ quota: { bytes: 15 } })
    for (const passing of way === 'direct' ? [0, 1] : [0]) {
      let seen = 0
      proxy.fault = ({ method, url }) => {
        if (!url?.includes('uploads')) return undefined
        if (method === 'PUT') seen++
        return seen > passing ? 'reset' : undefined
      }
      t.equal((await begin(server, folder)).status, 503)
      proxy.fault = () => undefined
      const another = await begin(server, folder)
      t.equal(another.status, 201, 'its room is free at once')
      const { completeUrl } = way === 'direct' ? ((await another.json()) as Answer) : {}
      if (completeUrl !== undefined) t.equal((await fetch(completeUrl, { method: 'DELETE' })).status, 204)
    }
    await server.logged(({ msg }) => msg === 'expired upload removed')
  })
}
