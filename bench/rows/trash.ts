import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { alternately, type Row, seconds } from '../row.ts'
import { startService } from '../service.ts'
import { treeOf } from '../trees.ts'

const files = 20_000

export const trash: Row = {
  name: 'trash',
  what: `a directory of ${files.toLocaleString('en')} files put into the trash and restored, against its removal by rm -rf`,
  bound: { atMost: 1 },
  async measure(bench) {
    const { url, authorization, createFolder, directoryOf } = await startService(bench, {
      TRASH_RETENTION_SECONDS: '86400',
    })
    const folder = await createFolder()
    const directory = await directoryOf(folder)
    treeOf(join(directory, 'kept'), files, 4096)
    const ask = async (method: string, path: string, body?: object) => {
      const response = await fetch(`${url}/folders/${folder}/${path}`, {
        method,
        headers: { authorization, ...(body && { 'content-type': 'application/json' }) },
        ...(body && { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
      return text
    }
    const quiet = () => execFileSync('sync', ['-f', directory])
    quiet()
    return alternately(3, 's', {
      ours: () =>
        seconds(async () => {
          await ask('POST', 'files/delete', { paths: ['kept'], recursive: true })
          const [, item] = /"id":"([^"]+)"/.exec(await ask('GET', 'trash')) ?? []
          await ask('POST', `trash/${item}/restore`, {})
        }),
      peer: async () => {
        const tree = join(bench.directory, 'tree')
        treeOf(tree, files, 4096)
        quiet()
        return seconds(async () => execFileSync('rm', ['-rf', tree]))
      },
    })
  },
}
