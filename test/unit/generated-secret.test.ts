import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { readOrGenerateSecret } from '../../plugins/access/generated-secret.ts'
import { temporaryDirectory } from '../server.ts'

t.test('all who make a secret at once have the same one, also those whose process IDs are the same', async (t) => {
  for (let round = 0; round < 60; round++) {
    const directory = await temporaryDirectory(t)
    const file = join(directory, 'secret')
    const begun: Promise<string>[] = []
    for (let caller = 0; caller < 8; caller++) {
      begun.push(readOrGenerateSecret('SECRET', file))
      for (let turn = 0; turn < round % 10; turn++) await nextTurn()
    }
    const secrets = await Promise.all(begun)
    t.same([...new Set(secrets)], [(await readFile(file, 'utf8')).trim()])
    t.same(await readdir(directory), ['secret'], 'no draft is left')
  }
})
