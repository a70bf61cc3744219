import { createWriteStream } from 'node:fs'
import { createServer } from 'node:http'
import { pipeline } from 'node:stream/promises'

// The least that a Node server must do for an upload that survives a power cut: a pipeline into a file, and fsync.
const [, , port, root] = process.argv

createServer(async (request, response) => {
  await pipeline(request, createWriteStream(root + (request.url ?? ''), { flush: true }))
  response.writeHead(201).end()
}).listen(Number(port), '127.0.0.1')
