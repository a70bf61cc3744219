import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { command } from '../../backends/command/index.ts'
import { conformance } from '../../backends/conformance/index.ts'
import { call } from '../posix.ts'
import { temporaryDirectory } from '../server.ts'

/** The usage and clones of plain directories, which keep no limits. */
const script = `#!/bin/sh
input=$(cat)
path() { printf %s "$input" | sed "s/.*\\"$1\\":{\\"id\\":[^}]*\\"files\\":\\"\\([^\\"]*\\)\\".*/\\1/"; }
case $STORAGE_PROXY_OPERATION in
usage)
  find "$(path folder)" ! -type d -printf '%y %s\\n' |
    awk '{ files++; if ($1 == "f") bytes += $2 } END { printf "{\\"bytes\\":%d,\\"files\\":%d}", bytes, files }'
  ;;
clone) cp -a --reflink=auto "$(path from)/." "$(path to)" && echo '{}' ;;
esac
`

t.test('command', async (t) => {
  const directory = await temporaryDirectory(t)
  const tool = join(directory, 'tool')
  writeFileSync(tool, script, { mode: 0o755 })
  const options = { root: join(directory, 'root'), commands: { usage: [tool], clone: [tool] } }
  const open = () => command.create({ options, log: pino({ level: 'silent' }), idleSeconds: 240, ...call })
  for (const { name, run } of await conformance(open, { pageEntries: 100 })) t.test(name, run)
})
