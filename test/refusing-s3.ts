import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Teardown } from './server.ts'

/** An S3 server that answers everything with an error, as Amazon S3 words it: with what it was sent. */
export async function refusing(
  t: Teardown,
  status: number,
  code: string,
  more = '',
  statusOfHead = status,
): Promise<string> {
  const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>No.</Message>${more}</Error>`
  const server = createServer((request, answer) => {
    request.resume()
    if (request.method === 'HEAD') answer.writeHead(statusOfHead).end()
    else answer.writeHead(status).end(body)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
