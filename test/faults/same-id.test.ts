import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { changeDatabase, readDatabase } from '../database.ts'
import { type Answer, ended, eventually, managerToken, type Server, startServer } from '../server.ts'

async function answerOf(server: Server, method: string, path: string, body?: object): Promise<[number, Answer]> {
  const response = await server.manager(method, path, body)
  return [response.status, await response.json()]
}

async function remove(server: Server, id: string): Promise<string> {
  const { job } = await server.ask('DELETE', `/folders/${id}`)
  await ended(server, job.id)
  return job.id
}

async function assertWhole(t: Test, server: Server, id: string): Promise<void> {
  t.match(await server.ask('GET', `/folders/${id}`), { state: 'ready', usage: { files: 1 } })
  const content = await server.manager('GET', `/folders/${id}/content/kept.txt`)
  t.match([content.status, await content.text()], [200, 'kept'])
}

const server = await startServer(t)

t.test('a vfolder that two processes are told to delete at once is deleted by one job', async (t) => {
  const one = await startServer(t)
  const two = await startServer(t, { dataDir: one.dataDir })
  for (let round = 0; round < 30; round++) {
    const id = await one.createFolder()
    const answers = await Promise.all([one, two].map((server) => answerOf(server, 'DELETE', `/folders/${id}`)))
    // One of them may come when it is gone.
    const jobs = new Set(answers.flatMap(([status, { job }]) => (status === 202 ? [job.id] : [])))
    t.equal(jobs.size, 1, JSON.stringify(answers))
  }
})

t.test('a deletion leaves a later vfolder of that ID alone', async (t) => {
  const id = await server.createFolder()
  const job = await remove(server, id)
  await server.createFolder({ id })
  await server.upload(id, { 'kept.txt': 'kept' })
  // As that of a process that died after another one had done the work.
  await changeDatabase(
    server.dataDir,
    `UPDATE jobs SET state = 'queued', finished_at = NULL, due_at = 0 WHERE id = '${job}'`,
  )
  t.match(await ended(server, job), { state: 'succeeded', attempts: 2 })
  await assertWhole(t, server, id)
})

t.test('a vfolder that is deleted while it is created stays deleted', async (t) => {
  // As many deletions as there may be at once, so that those below have to wait.
  const large = await Promise.all(Array.from({ length: 4 }, () => server.createFolder()))
  for (const id of large) await fill(await server.mountOf(id), 8000)
  await Promise.all(large.map((id) => server.ask('DELETE', `/folders/${id}`)))
  let deleted = 0
  for (let round = 0; round < 40; round++) {
    const id = randomUUID()
    const creating = answerOf(server, 'POST', '/folders', { id })
    await sleep(round % 6)
    const [status] = await answerOf(server, 'DELETE', `/folders/${id}`)
    const [created, answer] = await creating
    t.match(created, /^(201|409)$/, JSON.stringify(answer))
    if (status !== 202) continue
    deleted++
    t.match(await answerOf(server, 'GET', `/folders/${id}`), [404, { code: 'vfolder_not_found' }])
  }
  t.ok(deleted > 10, `${deleted} were deleted`)
})

t.test('a clone of an ID whose vfolder was made otherwise is refused', async (t) => {
  const source = await server.createFolder()
  await server.upload(source, { 'kept.txt': 'kept' })
  const id = randomUUID()
  const [, { job }] = await answerOf(server, 'POST', `/folders/${source}/clone`, { id })
  t.match(await ended(server, job.id), { state: 'succeeded' })
  const again = await answerOf(server, 'POST', `/folders/${source}/clone`, { id })
  t.match(again, [202, { job: { id: job.id }, folder: { id } }], 'the same call twice is one clone')
  await remove(server, id)
  await server.createFolder({ id })
  t.match(await answerOf(server, 'POST', `/folders/${source}/clone`, { id }), [409, { code: 'vfolder_exists' }])
  await remove(server, id)
  const [status, { job: other }] = await answerOf(server, 'POST', `/folders/${source}/clone`, { id })
  t.equal(status, 202)
  t.not(other.id, job.id)
  t.match(await ended(server, other.id), { state: 'succeeded' })
  await assertWhole(t, server, id)
})

t.test('an upload into a vfolder that was deleted does not end in a later one', async (t) => {
  const server = await startServer(t)
  const id = await server.createFolder()
  const upload = request(`${server.url}/folders/upload?folder=${id}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${managerToken}`, 'content-type': 'multipart/form-data; boundary=b' },
  })
  const answered = new Promise<number | undefined>((resolve, reject) =>
    upload.on('response', (response) => resolve(response.resume().statusCode)).on('error', reject),
  )
  upload.write('--b\r\nContent-Disposition: form-data; name="file"; filename="old.txt"\r\n\r\nold')
  await sleep(500)
  await remove(server, id)
  await server.createFolder({ id })
  await server.upload(id, { 'kept.txt': 'kept' })
  // More than was reserved, so that it asks for room again.
  upload.write(Buffer.alloc(8 * 1024 * 1024, 'x'))
  upload.end('\r\n--b--\r\n')
  t.equal(await answered, 404)
  await assertWhole(t, server, id)
  const reserved = `SELECT reserved_bytes + reserved_files AS reserved FROM vfolders WHERE id = '${id}'`
  await eventually(async () => Number((await readDatabase(server.dataDir, reserved))[0].reserved) === 0)
  t.match(await server.ask('GET', `/folders/${id}/files`), { entries: [{ path: 'kept.txt' }] })
})

async function fill(directory: string, count: number): Promise<void> {
  await mkdir(join(directory, 'files'))
  for (let written = 0; written < count; written += 100) {
    const names = Array.from({ length: 100 }, (_, index) => `files/${written + index}`)
    await Promise.all(names.map((name) => writeFile(join(directory, name), '')))
  }
}
