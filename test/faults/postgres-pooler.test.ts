import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startPooler } from '../postgres/pooler.ts'
import { startCluster, startSharing } from '../postgres/service.ts'
import { ended, eventually, temporaryDirectory } from '../server.ts'

const cluster = await startCluster(t)
const deaf = /^the database tells of no changes; they are looked for every second$/

for (const mode of ['session', 'transaction'] as const) {
  t.test(`two processes behind a pooler that works by ${mode}`, async (t) => {
    const database = `by_${mode}`
    await cluster.query('postgres', `create database ${database}`)
    const url = (await startPooler(t, cluster, mode))(database)
    const root = await temporaryDirectory(t)
    const one = await startSharing(t, { url, root })
    const two = await startSharing(t, { url, root })
    if (mode === 'transaction') {
      for (const server of [one, two]) {
        const { err } = await server.logged(({ msg }) => deaf.test(msg))
        t.match(err, { message: /^LISTEN has no effect/ })
      }
    }

    const folder = await one.createFolder()
    await one.upload(folder, { 'a.txt': 'a' })
    const { folder: clone, job } = await two.ask('POST', `/folders/${folder}/clone`, {})
    t.match(await ended(one, job.id), { state: 'succeeded', result: { files: 1, bytes: 1 } })
    t.match(await one.ask('GET', `/folders/${clone.id}`), { usage: { files: 1, bytes: 1 } })

    await t.test('the end of a job is told to who follows it at the other process', async (t) => {
      const tree = join(await one.mountOf(folder), 'tree')
      await mkdir(tree)
      await Promise.all(Array.from({ length: 500 }, (_, index) => writeFile(join(tree, `${index}`), 'x')))
      const { job } = await one.ask('POST', `/folders/${folder}/clone`, {})
      const followed = await two.manager('GET', `/jobs/${job.id}/events`)
      const events = await followed.text()
      t.match(events, /"state":"succeeded"/)
    })

    await t.test('a limit that is set at one holds at the other', async (t) => {
      await one.ask('PATCH', `/folders/${folder}`, { quota: { files: 1, bytes: null } })
      const refused = await eventually(async () => {
        const response = await fetch(await two.sign(folder, 'more.txt', { operation: 'upload' }), {
          method: 'PUT',
          body: 'more',
        })
        await response.arrayBuffer()
        return response.status === 507
      }, 5000)
      t.ok(refused)
    })

    const isDeaf = [one, two].map((server) => server.lines().some(({ msg }) => deaf.test(msg)))
    t.same(isDeaf, mode === 'transaction' ? [true, true] : [false, false])
  })
}
