import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import t from 'tap'
import { visit } from '../browser.ts'
import { startCuttingProxy } from '../cutting-proxy.ts'
import { eventually, type Files, type Server, startServer, temporaryDirectory } from '../server.ts'
import { assertNothingLeft, signTus } from '../tus.ts'

const blocks = 16
const blockWords = 2 * 1024 * 1024
const size = blocks * blockWords * 4

/** Bytes that the test and the page make alike, no two places the same (xorshift32). Written to run in both. */
function block(index: number, words: number) {
  const block = new Uint32Array(words)
  let word = index + 1
  for (let at = 0; at < words; at++) {
    word ^= word << 13
    word ^= word >>> 17
    word ^= word << 5
    block[at] = word
  }
  return block
}

/** A page that uploads by tus-js-client, as it comes for browsers, and tells its own server how that ended. */
const page = (endpoint: string) => `<!doctype html><script src="/tus.js"></script><script>
  ${block}
  const end = (how) => fetch('/end', { method: 'POST', body: how })
  // It is on the browser's disk, as a file that somebody chose would be.
  async function makeFile() {
    const handle = await (await navigator.storage.getDirectory()).getFileHandle('a', { create: true })
    const writable = await handle.createWritable()
    for (let index = 0; index < ${blocks}; index++) await writable.write(block(index, ${blockWords}))
    await writable.close()
    return handle.getFile()
  }
  makeFile().then((file) => {
    new tus.Upload(file, {
      endpoint: ${JSON.stringify(endpoint)},
      chunkSize: 8 * 1024 * 1024,
      retryDelays: Array(3000).fill(50),
      metadata: { filename: 'from a page' },
      onError: (error) => end(String(error)),
      onSuccess: () => end('success'),
    }).start()
  }).catch((error) => end(String(error)))
</script>`

/** Waits until so many bytes have come. */
async function stored(server: Server, bytes: number): Promise<void> {
  const directory = join(server.dataDir, 'volumes/default/uploads')
  await eventually(async () => {
    const [name] = await readdir(directory)
    return name !== undefined && (await stat(join(directory, name))).size >= bytes
  }, 120_000)
}

async function hashes({ mount }: Files): Promise<{ sent: string; found: string }> {
  const sent = createHash('sha256')
  for (let index = 0; index < blocks; index++) sent.update(block(index, blockWords))
  const found = createHash('sha256')
  await pipeline(createReadStream(join(mount, 'a')), found)
  return { sent: sent.digest('hex'), found: found.digest('hex') }
}

t.test(
  'tus-js-client in Chromium, a connection that breaks, a server that is killed',
  { timeout: 280_000 },
  async (t) => {
    const dataDir = await temporaryDirectory(t)
    const port = 20_000 + Math.floor(Math.random() * 10_000)
    const proxy = await startCuttingProxy(t, { port, mostBytes: size / 4 })
    const publicUrl = proxy.through(`http://127.0.0.1:${port}/`)
    const env = { PORT: `${port}`, PUBLIC_URL: publicUrl, LEASE_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
    let server = await startServer(t, { dataDir, env })
    const files = await server.files()
    const ended = visit(t, page(await signTus(files, 'a')))
    for (const kill of [1, 2]) {
      await Promise.race([stored(server, (kill * size) / 3), ended])
      await server.end('SIGKILL')
      server = await startServer(t, { dataDir, env })
    }
    t.equal(await ended, 'success')
    t.ok(proxy.cuts > 2, `${proxy.cuts} connections were cut`)
    const { sent, found } = await hashes(files)
    t.equal(found, sent)
    t.match(await server.logged(({ msg }) => msg === 'upload completed'), { size, sha256: sent })
    proxy.stopCutting()
    await assertNothingLeft(t, server, files.folder)
  },
)
