import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { s3Volume } from '../ceph/index.ts'
import { managerToken, startServer } from '../server.ts'

const volumes = {
  posix: async () => ({}),
  s3: async () => ({ VOLUMES: JSON.stringify({ default: await s3Volume() }) }),
  's3 that redirects': async () => ({
    VOLUMES: JSON.stringify({ default: { ...(await s3Volume()), redirect: true } }),
  }),
}

for (const [backend, environment] of Object.entries(volumes)) {
  t.test(`the quick start walks the whole story on ${backend}`, async (t) => {
    const server = await startServer(t, { env: await environment() })
    const script = fileURLToPath(new URL('../../examples/quickstart.sh', import.meta.url))
    const env = { ...process.env, STORAGE_PROXY_URL: server.url, MANAGER_TOKEN: managerToken }
    const { stdout } = await promisify(execFile)(script, { env })
    t.match(stdout, 'x-backend-request-id: my-download-1')
    t.ok(stdout.trimEnd().endsWith('Done.'))
    t.ok(server.linesOf('quickstart-1').length >= 10)
    t.same((await server.ask('GET', '/folders')).folders, [], 'it cleans up')
  })
}
