import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { managerToken, startServer } from './server.ts'

t.test('the quick start walks the whole story', async (t) => {
  const server = await startServer(t)
  const script = fileURLToPath(new URL('../examples/quickstart.sh', import.meta.url))
  const env = { ...process.env, STORAGE_PROXY_URL: server.url, MANAGER_TOKEN: managerToken }
  const { stdout } = await promisify(execFile)(script, { env })
  t.match(stdout, 'x-backend-request-id: my-download-1')
  t.ok(stdout.trimEnd().endsWith('Done.'))
  t.ok(server.linesOf('quickstart-1').length >= 10)
  t.same((await server.ask('GET', '/folders')).folders, [], 'it cleans up')
})
