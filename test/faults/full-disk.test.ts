import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { managerToken } from '../server.ts'
import { startOnSmallVolume } from '../small-volume.ts'

const megabyte = 1024 * 1024

t.test('a volume of 8 MiB', async (t) => {
  const { server, root } = await startOnSmallVolume(t, 8)
  const files = await server.files()
  const staged = () => readdir(join(root, 'staging'))
  const upload = (name: string, bytes: number) => {
    const form = new FormData()
    form.append('file', new Blob(['first']), 'first.txt')
    form.append('file', new Blob([new Uint8Array(bytes)]), name)
    return server.manager('POST', `/folders/upload?folder=${files.folder}`, form)
  }
  const full = { status: 507, code: 'no_space', title: 'The volume is full' }

  await t.test('a file that does not fit', async (t) => {
    const response = await upload('large.bin', 64 * megabyte)
    t.equal(response.status, 507)
    t.match(await response.json(), { ...full, detail: /large\.bin/, files: [{ path: 'first.txt' }] })
    t.same([await files.ndjson('recursive=true'), await staged()], [['first.txt'], []])
    t.same(await files.usage(), { files: 1, bytes: 5 })
    await server.logged(({ msg, level }) => level === 50 && /no room left for large\.bin/.test(msg))
  })

  await t.test('a file that replaces another: the old one stays', async (t) => {
    t.equal((await upload('half.bin', 4 * megabyte)).status, 201)
    t.match(await (await upload('half.bin', 6 * megabyte)).json(), full)
    t.match(await files.stat('half.bin'), { size: 4 * megabyte })
    t.same(await staged(), [])
  })

  await t.test('a copy', async (t) => {
    t.equal((await upload('most.bin', 3 * megabyte)).status, 201)
    t.match(await files.post('copy', { from: 'half.bin', to: 'copy.bin' }), [507, full])
    t.match(await files.post('copy', { from: 'half.bin', to: 'most.bin', overwrite: true }), [507, full])
    t.same([await files.ndjson(''), await staged()], [['first.txt', 'half.bin', 'most.bin'], []])
  })

  await t.test('many uploads at once: each is there as a whole or answered with 507', async (t) => {
    const names = Array.from({ length: 8 }, (_, index) => `at-once-${index}.bin`)
    const statuses = await Promise.all(
      names.map(async (name) => {
        const form = new FormData()
        form.append('file', new Blob([new Uint8Array(300_000)]), name)
        const url = `${server.url}/folders/upload?folder=${files.folder}`
        const headers = { authorization: `Bearer ${managerToken}` }
        return (await fetch(url, { method: 'POST', body: form, headers })).status
      }),
    )
    t.ok(statuses.includes(201) && statuses.includes(507), statuses.join())
    for (const [index, name] of names.entries()) {
      t.match(await files.stat(name), statuses[index] === 201 ? { size: 300_000 } : { code: 'entry_not_found' })
    }
    t.same(await staged(), [])
  })

  await t.test('reading and deleting go on, and so does the rest once there is room', async (t) => {
    const content = await server.manager('GET', `/folders/${files.folder}/content/half.bin`)
    t.equal((await content.arrayBuffer()).byteLength, 4 * megabyte)
    const warning = /^the volume is full: it has \d+ bytes left$/
    const ready = await server.ask('GET', '/readyz')
    t.match(ready, { status: 'ready', checks: [{ healthy: true }, { name: 'volume:default', healthy: true, warning }] })
    t.match(await server.ask('GET', '/volumes/default'), { health: { healthy: true, warning } })
    t.match(await files.post('delete', { paths: ['half.bin'] }), [200, { deleted: ['half.bin'] }])
    t.same((await server.ask('GET', '/readyz')).checks[1], { name: 'volume:default', healthy: true })
    t.equal((await upload('again.bin', 3 * megabyte)).status, 201)
  })
  t.equal(await server.end(), 0)
})
