import { close, open, read } from 'node:fs'
import { createServer } from 'node:http'

// The least that a Node server must do for a small file: open, read, close, and one write.
const [, , port, root] = process.argv

createServer((request, response) => {
  open(root + (request.url ?? ''), (openError, fd) => {
    if (openError) return response.writeHead(404).end()
    read(fd, Buffer.allocUnsafe(4096), 0, 4096, 0, (readError, length, buffer) => {
      close(fd, () => {})
      if (readError) return response.writeHead(500).end()
      response.writeHead(200, { 'content-length': length }).end(buffer.subarray(0, length))
    })
  })
}).listen(Number(port), '127.0.0.1')
