import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { changeDatabase } from '../database.ts'
import { ended, eventually, managerToken } from '../server.ts'
import { server } from '../shared-server.ts'

t.test('a process has a bounded number of followers of jobs', async (t) => {
  const { job } = await server.ask('POST', `/folders/${await server.createFolder()}/sync`)
  await ended(server, job.id)
  changeDatabase(
    server.dataDir,
    `UPDATE jobs SET state = 'queued', due_at = ${Date.now() + 59_000}, finished_at = NULL WHERE id = '${job.id}'`,
  )
  const path = `/jobs/${job.id}/events`
  const { hostname, port } = new URL(server.url)
  const sockets: Socket[] = []
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  /** The beginning of the answer. */
  const follow = async () => {
    const socket = connect(Number(port), hostname)
    sockets.push(socket)
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${managerToken}\r\n\r\n`)
    return String((await once(socket, 'data'))[0])
  }

  for (let index = 0; index < 10; index++) {
    t.equal((await server.manager('HEAD', path)).status, 200, 'a HEAD does not follow')
  }
  const answers = await Promise.all(Array.from({ length: 256 }, follow))
  t.ok(answers.every((answer) => answer.startsWith('HTTP/1.1 200 ')))
  const refused = await server.manager('GET', path)
  t.match(await refused.json(), { status: 503, code: 'too_many_followers', mostFollowers: 256 })
  t.equal(refused.headers.get('retry-after'), '5')
  sockets[0]?.destroy()
  await eventually(async () => (await follow()).startsWith('HTTP/1.1 200 '))
})
