import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startForClients } from '../backend-ai-clients.ts'
import { visit } from '../browser.ts'

const size = 3_000_000

/** Uploads, as Backend.AI's web UI does, and downloads again; tells how each of that went. */
const page = (urls: { upload: string; empty: string; download: string; refused: string }) => `<!doctype html>
<script src="/tus.js"></script><script>
  const urls = ${JSON.stringify(urls)}
  const content = new Uint8Array(${size}).map((_, index) => index % 251)
  const upload = (url, file) => new Promise((resolve) => {
    const methods = []
    new tus.Upload(file, {
      endpoint: url,
      uploadUrl: url,
      retryDelays: [0, 3000, 5000, 10000, 20000],
      chunkSize: 1_000_000,
      storeFingerprintForResuming: false,
      metadata: { filename: file.name, filetype: file.type },
      onBeforeRequest: (request) => void methods.push(request.getMethod()),
      onError: (error) => resolve(String(error)),
      onSuccess: () => resolve(methods.join()),
    }).start()
  })
  async function all() {
    const told = {}
    told.upload = await upload(urls.upload, new File([content], 'from a page'))
    told.empty = await upload(urls.empty, new File([], 'empty'))
    told.refused = await upload(urls.refused, new File([], 'refused'))
    const response = await fetch(urls.download + '&no_cache=true')
    const bytes = new Uint8Array(await response.arrayBuffer())
    told.download = [response.status, response.headers.get('content-length')]
    told.same = bytes.length === content.length && bytes.every((byte, index) => byte === content[index])
    const missing = await fetch(urls.refused.replace('upload', 'download'))
    told.missing = [missing.status, (await missing.json()).title]
    return told
  }
  const end = (how) => fetch('/end', { method: 'POST', body: JSON.stringify(how) })
  all().then(end, (error) => end(String(error)))
</script>`

t.test('the web UI of Backend.AI in Chromium', { timeout: 120_000 }, async (t) => {
  const vfolder = await startForClients(t)
  const told = await visit(
    t,
    page({
      upload: vfolder.upload('a b/ü', size),
      empty: vfolder.upload('empty', 0),
      refused: vfolder.upload('../refused', 0),
      download: vfolder.download('a b/ü'),
    }),
  )
  t.match(JSON.parse(told), {
    upload: 'HEAD,PATCH,PATCH,PATCH',
    empty: 'HEAD',
    refused: /response code: 400.*must not lead out of the vfolder/,
    download: [200, `${size}`],
    same: true,
    missing: [400, 'Invalid API parameters'],
  })
  t.equal((await readFile(join(vfolder.mount, 'a b/ü'))).length, size)
  t.equal((await readFile(join(vfolder.mount, 'empty'))).length, 0)
})
