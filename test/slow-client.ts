import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { requestIdHeader } from '../plugins/request/request-id.ts'

/** A download whose client has the headers and does not read on yet: far more is to come than sockets hold. */
export async function begin(url: string, requestId: string): Promise<IncomingMessage> {
  const request = get(url, { headers: { [requestIdHeader]: requestId }, agent: false })
  const [response]: IncomingMessage[] = await once(request, 'response')
  return response!
}

/** All that comes, and whether that was the end. */
export async function read(response: IncomingMessage): Promise<{ bytes: Buffer; whole: boolean }> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of response) chunks.push(chunk)
  } catch {
    return { bytes: Buffer.concat(chunks), whole: false }
  }
  return { bytes: Buffer.concat(chunks), whole: true }
}
