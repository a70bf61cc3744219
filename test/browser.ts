import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { type Teardown, temporaryDirectory } from './server.ts'

/**
 * Serves the page on an origin of its own, with tus-js-client at `/tus.js`, opens it in Chromium and gives what it tells by a
 * POST to `/end`.
 */
export async function visit(t: Teardown, html: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const script = await readFile(fileURLToPath(import.meta.resolve('tus-js-client/dist/tus.min.js')))
  const server = createServer(async (request, response) => {
    if (request.url === '/end') resolve(await text(request))
    if (request.url === '/tus.js') response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
    else response.writeHead(200, { 'content-type': 'text/html' }).end(html)
  }).listen(0, '127.0.0.1')
  await new Promise((listening) => server.once('listening', listening))
  t.teardown(() => server.close())
  const profile = await temporaryDirectory(t)
  const options = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--remote-debugging-port=0',
  ]
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const browser = spawn('chromium', [...options, `--user-data-dir=${profile}`, url], { stdio: 'ignore' })
  await once(browser, 'spawn')
  const exited = new Promise((exit) => browser.once('exit', exit))
  t.teardown(() => browser.kill())
  try {
    return await promise
  } finally {
    browser.kill()
    await exited
  }
}
