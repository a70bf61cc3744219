import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { appendFile, mkdir, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { eventually, startServer } from '../server.ts'
import { begin, read } from '../slow-client.ts'

const MiB = 1024 * 1024
/** More than is read ahead of what is sent. */
const names = Array.from({ length: 1000 }, (_, index) => `${1000 + index}.txt`)
const formats = ['zip', 'zip&compression=deflate', 'tar', 'tar.gz', 'tar.zst']

t.test('a tree that changes while it is packed', async (t) => {
  const server = await startServer(t)
  const { folder, mount } = await server.files()
  const large = join(mount, 'a-large.bin')
  const after = join(mount, 'b-after')
  const lastDirectory = join(mount, 'd-last')
  await mkdir(lastDirectory)
  await writeFile(join(lastDirectory, 'there.txt'), 'there')
  const content = randomBytes(16 * MiB)
  const urlOf = async (query: string) => (await server.signArchive(folder)).replace('archive=zip', `archive=${query}`)
  const closed = () => eventually(async () => (await server.openFiles()).length === 0)

  const isWhole = async () => {
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(after, name))).size))
    return sizes.every((size) => size > 0)
  }
  const prepare = async () => {
    for (const path of [join(mount, 'c-moved'), join(lastDirectory, 'new.txt')]) {
      await rm(path, { recursive: true, force: true })
    }
    await writeFile(large, content)
    if (await isWhole().catch(() => false)) return
    await mkdir(after, { recursive: true })
    await Promise.all(names.map((name) => writeFile(join(after, name), name)))
  }
  t.beforeEach(prepare)
  t.afterEach(closed)

  const last = join(after, '1999.txt')
  const changes: [what: string, change: () => Promise<unknown>, which?: string[]][] = [
    ['a file shrinks', () => truncate(large, 1000)],
    ['a file grows', () => appendFile(large, 'more')],
    ['a file vanishes', () => rm(large)],
    [
      'a file is another in the end',
      async () => {
        await writeFile(join(mount, 'new'), content)
        await rename(join(mount, 'new'), large)
      },
    ],
    ['a directory vanishes', () => rm(after, { recursive: true })],
    ['a directory moves away', () => rename(after, join(mount, 'c-moved'))],
    ['a later file shrinks', () => writeFile(last, ''), ['zip', 'tar']],
    ['a later file vanishes', () => rm(last), ['zip', 'tar']],
    ['a file comes in', () => writeFile(join(lastDirectory, 'new.txt'), 'new'), ['zip', 'tar']],
  ]
  for (const [what, change, which = formats] of changes) {
    await t.test(what, async (t) => {
      for (const query of which) {
        await prepare()
        const id = `${what.replaceAll(' ', '-')}-${query.replaceAll(/\W/g, '-')}`
        const response = await begin(await urlOf(query), id)
        await change()
        const { whole } = await read(response)
        t.notOk(whole, `${query}: the client cannot take it for the whole`)
        const line = await server.logged(({ request_id, msg }) => request_id === id && msg === 'request aborted')
        t.equal(line.reason, 'the archive could not be completed')
        t.ok(
          server.linesOf(id).some(({ level }) => level === 50),
          'the log tells why',
        )
        await closed()
      }
    })
  }

  // As nginx asks unless told otherwise. Such a client knows the end of an archive by the end of the connection.
  await t.test('a client of HTTP/1.0 sees it too', async (t) => {
    for (const query of ['zip&compression=deflate', 'tar.gz', 'tar.zst']) {
      await prepare()
      const { hostname, port, pathname, search } = new URL(await urlOf(query))
      const socket = connect(Number(port), hostname)
      socket.write(`GET ${pathname}${search} HTTP/1.0\r\n\r\n`)
      await once(socket, 'readable')
      await truncate(large, 1000)
      await t.rejects(text(socket), { code: 'ECONNRESET' }, query)
      await closed()
    }
  })

  await t.test('a file that comes in where no length was announced', async (t) => {
    const response = await begin(await urlOf('tar.gz'), 'comes-in')
    await writeFile(join(lastDirectory, 'new.txt'), 'new')
    t.ok((await read(response)).whole)
  })

  await t.test('a client that goes away', async (t) => {
    for (const query of formats) {
      const id = `goes-away-${query.replaceAll(/\W/g, '-')}`
      const response = await begin(await urlOf(query), id)
      t.ok((await server.openFiles()).length > 0, query)
      response.destroy()
      const line = await server.logged(({ request_id, msg }) => request_id === id && msg === 'request aborted')
      t.equal(line.reason, 'the client went away')
      await closed()
      t.notOk(
        server.linesOf(id).some(({ level }) => level >= 50),
        'which is no error of the service',
      )
    }
  })

  await t.test('fifty clients that go away', async (t) => {
    const urls = await Promise.all(Array.from({ length: 50 }, (_, index) => urlOf(formats[index % formats.length]!)))
    const responses = await Promise.all(
      urls.map(async (url) => {
        const [response]: IncomingMessage[] = await once(get(url, { agent: false }), 'response')
        return response!
      }),
    )
    for (const response of responses) response.destroy()
    await closed()
    t.ok((await read(await begin(await urlOf('zip'), 'the-next'))).whole, 'and the next one is served')
  })
})
