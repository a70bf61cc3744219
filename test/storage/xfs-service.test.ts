import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { copyDatabase, readDatabase, restoreDatabase } from '../database.ts'
import { mountImage } from '../loop-image.ts'
import { ended, type Server, startServer, temporaryDirectory } from '../server.ts'
import { fakeXfsQuota } from '../xfs-quota.ts'

/** The project of a vfolder, as the filesystem has it. */
async function projectOf(server: Server, folder: string): Promise<number> {
  const listed = execFileSync('lsattr', ['-pd', dirname(await server.mountOf(folder))], { encoding: 'utf8' })
  return Number.parseInt(listed, 10)
}

t.test('projects of a service', async (t) => {
  const mountPoint = await mountImage(t, ['mkfs.xfs', '-q'], 400)
  const { program, state } = await fakeXfsQuota(t)
  const dataDir = await temporaryDirectory(t)
  const volume = (name: string) => ({ backend: 'xfs', root: join(mountPoint, name), program })
  const volumes = { default: volume('a'), other: { ...volume('b'), mount: mountPoint } }
  const env = { VOLUMES: JSON.stringify(volumes), LOG_LEVEL: 'debug' }
  let server = await startServer(t, { dataDir, env })
  const limitOf = (project: number) => readFileSync(join(state, `limit-${project}`), 'utf8').trim()

  const { capabilities } = await server.ask('GET', '/volumes/default')
  for (const capability of ['clone', 'usage', 'quota', 'trash']) t.ok(capabilities.includes(capability))

  const folder = await server.createFolder({ quota: { bytes: 10 * 1024 * 1024, files: 100 } })
  const project = await projectOf(server, folder)
  t.equal(limitOf(project), '10240 120')
  await server.manager(
    'PATCH',
    `/folders/${folder}`,
    { quota: { files: null } },
    { 'X-Backend-Request-ID': 'limits-1' },
  )
  t.equal(limitOf(project), '10240 0')
  const asked = [`limit -p bsoft=0 bhard=10485760 isoft=0 ihard=0 ${project}`, `project -c -d 0 -p . ${project}`]
  const line = await server.logged(({ msg, request_id }) => msg === 'xfs_quota done' && request_id === 'limits-1')
  t.match(line, { volume: 'default', commands: asked })

  const elsewhere = await server.createFolder({ volume: 'other' })
  t.not(await projectOf(server, elsewhere), project, 'two volumes on one filesystem')

  await server.upload(folder, { 'dir/file': 'content' })
  const cloned = await server.ask('POST', `/folders/${folder}/clone`, { quota: { bytes: 20 * 1024 * 1024 } })
  await ended(server, cloned.job.id)
  const projectOfClone = await projectOf(server, cloned.folder.id)
  t.not(projectOfClone, project)
  t.equal(limitOf(projectOfClone), '20480 0')

  t.equal(await server.end(), 0)
  await copyDatabase(dataDir)
  server = await startServer(t, { dataDir, env })
  t.equal(await projectOf(server, folder), project)
  await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: 1024 } })
  t.equal(limitOf(project), '1 0', 'a project is kept across restarts')

  const removed = await server.ask('DELETE', `/folders/${cloned.folder.id}`)
  await ended(server, removed.job.id)
  t.equal(limitOf(projectOfClone), '0 0')
  t.same(
    await readDatabase(dataDir, `select folder from folder_numbers where folder = '${cloned.folder.id}'`),
    [],
    'the number of a vfolder that is gone is forgotten',
  )
  const late = [await server.createFolder(), await server.createFolder()]
  const lateProjects = await Promise.all(late.map((id) => projectOf(server, id)))
  t.notOk(lateProjects.includes(projectOfClone), 'and not given to another one')
  t.equal(await server.end(), 0)

  // An older state of the database knows nothing of the last vfolders.
  await restoreDatabase(dataDir)
  server = await startServer(t, { dataDir, env })
  for (const name of ['a', 'b']) {
    const { volume } = JSON.parse(readFileSync(join(mountPoint, name, 'identity'), 'utf8'))
    await server.ask('POST', `/volumes/${name === 'a' ? 'default' : 'other'}/accept`, { found: volume })
  }
  const next = await server.createFolder()
  t.notOk([project, ...lateProjects].includes(await projectOf(server, next)), 'their projects are left to them')
  const adopted = await server.ask('POST', `/volumes/default/orphans/${late[0]}/adopt`)
  await ended(server, adopted.job.id)
  const projects = await Promise.all([folder, next, late[1]!].map((id) => projectOf(server, id).catch(() => 0)))
  const own = await projectOf(server, late[0]!)
  t.ok(own > 0 && ![...projects, ...lateProjects].includes(own), 'one that is adopted gets one of its own')
  t.equal(await server.end(), 0)
})
