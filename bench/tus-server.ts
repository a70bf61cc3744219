import { createServer } from 'node:http'
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

// The peer of our own tus, as its documentation sets it up.
const [, , port = '', directory = ''] = process.argv

const tus = new Server({ path: '/files', datastore: new FileStore({ directory }) })
createServer((request, response) => tus.handle(request, response)).listen(Number(port), '127.0.0.1')
