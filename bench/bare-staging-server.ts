import fs from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { promisify } from 'node:util'

const open = promisify(fs.open)
const write = promisify(fs.write)
const fsync = promisify(fs.fsync)
const close = promisify(fs.close)
const rename = promisify(fs.rename)

// The least that a Node server must do for a small file that is seen whole or not at all, and survives a power cut: it
// is staged, flushed, renamed, and its directory is flushed.
const [, , port, root = ''] = process.argv
let staged = 0

createServer(async (request, response) => {
  if (request.method !== 'PUT') return response.writeHead(405).end()
  const body = await read(request)
  const staging = `${root}/.staging-${staged++}`
  const fd = await open(staging, 'wx')
  await write(fd, body)
  await fsync(fd)
  await close(fd)
  await rename(staging, root + (request.url ?? ''))
  const directory = await open(root, 'r')
  await fsync(directory)
  await close(directory)
  response.writeHead(201).end()
}).listen(Number(port), '127.0.0.1')

async function read(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}
