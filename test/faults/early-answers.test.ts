import { once } from 'node:events'
import { readdir, readlink } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { eventually, startServer } from '../server.ts'
import { create, signTus, startPatch } from '../tus.ts'

const body = new Uint8Array(20_000_000)
const form = 'Content-Type: multipart/form-data; boundary=b'

/** Sends a head and a body whole before it reads a byte, as Python's urllib does. */
async function sendAll(url: string, method: string, version: string, fields: string[]): Promise<Socket> {
  const { hostname, port, pathname, search } = new URL(url)
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true }).pause()
  const head = [`${method} ${pathname}${search} ${version}`, 'Host: x', `Content-Length: ${body.length}`, ...fields]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  const step = 1_000_000
  for (let at = 0; at < body.length; at += step) {
    if (!socket.write(body.subarray(at, at + step))) await once(socket, 'drain')
    // The answer is there before the body is.
    await sleep(10)
  }
  return socket
}

const server = await startServer(t)

t.test('a client that reads only when all is sent gets the answer to what was refused before', async (t) => {
  const folder = await server.createFolder()
  const url = await server.sign(folder, 'a', { operation: 'upload', maxBytes: 10 })
  for (const [version, ...fields] of [
    ['HTTP/1.1', 'Connection: close'],
    ['HTTP/1.0'],
    ['HTTP/1.0', 'Connection: keep-alive'],
    ['HTTP/1.1'],
  ] as const) {
    for (const [status, code, method, to, ...more] of [
      [413, 'file_too_large', 'PUT', url],
      [401, 'token_invalid', 'PUT', `${url}x`],
      [400, 'invalid_url', 'PUT', url.replace('/a?', '/100%?')],
      [400, 'malformed_multipart', 'POST', url, form],
    ] as const) {
      const socket = await sendAll(to, method, version, [...fields, ...more])
      const [answer] = await once(socket.resume(), 'data')
      t.match(String(answer), new RegExp(`^HTTP/1.1 ${status} .*"${code}"`, 's'), `${version} ${fields} ${status}`)
      socket.destroy()
    }
  }
})

t.test('the connection is closed once all is sent', async (t) => {
  const url = await server.sign(await server.createFolder(), 'a', { operation: 'upload', maxBytes: 10 })
  const descriptors = `/proc/${server.process.pid}/fd`
  const connections = async () => {
    const links = (await readdir(descriptors)).map((fd) => readlink(join(descriptors, fd)).catch(() => ''))
    return (await Promise.all(links)).filter((path) => path.startsWith('socket:')).length
  }
  const before = await connections()
  const socket = await sendAll(url, 'PUT', 'HTTP/1.1', ['Connection: close'])
  t.match(await text(socket), /^HTTP\/1.1 413 /)
  await eventually(async () => (await connections()) === before)
  socket.destroy()
})

t.test('a client that reads while it sends sees the end of the answer, and is cut when it goes on', async (t) => {
  const location = await create(await signTus(await server.files(), 'a'), 1e8)
  const { socket, answer } = startPatch(location, 5, 1e8, { Connection: 'close' })
  socket.allowHalfOpen = true
  const happened = (event: string) => new Promise<number>((resolve) => socket.once(event, () => resolve(Date.now())))
  const [ended, cut] = [happened('end'), happened('error')]
  const sending = setInterval(() => socket.write(new Uint8Array(10_000)), 10)
  t.match(await answer, /^HTTP\/1.1 409[\s\S]*upload_offset_mismatch/)
  const milliseconds = (await cut) - (await ended)
  clearInterval(sending)
  t.ok(milliseconds > 500, 'what it sent after that was taken for a while')
  t.ok(milliseconds < 15_000)
  socket.destroy()
})

t.test('a close waits until all is sent, and no longer', async (t) => {
  const server = await startServer(t)
  const url = await server.sign(await server.createFolder(), 'a', { operation: 'upload', maxBytes: 10 })
  const { hostname, port, pathname, search } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.write(`PUT ${pathname}${search} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n`)
  t.match(String(await once(socket, 'data')), /^HTTP\/1.1 413 /)
  const ended = server.end()
  await server.logged(({ msg }) => msg === 'the service closes')
  await sleep(300)
  t.equal(server.process.exitCode, null)
  const begun = performance.now()
  socket.write(new Uint8Array(1000))
  t.equal(await ended, 0)
  t.ok(performance.now() - begun < 10_000)
  socket.destroy()
})
