import { parseArgs } from 'node:util'
import { collect } from './collect.ts'
import { print } from './print.ts'
import { tell } from './story.ts'

const usage = 'npm run -s story -- [--json] REQUEST-ID LOG-FILE...'

/** `npm run story`: what log files, of any number of processes and of the S3 server, have about a request ID. */
async function main(): Promise<void> {
  const options = { json: { type: 'boolean', default: false } } as const
  const { values, positionals } = parseArgs({ allowPositionals: true, options })
  const [id, ...files] = positionals
  if (id === undefined || files.length === 0) throw new Error(`usage: ${usage}`)
  const story = tell(id, await collect(id, files))
  process.stdout.write(values.json ? `${JSON.stringify(story)}\n` : print(story))
  if (story.chapters.length === 0) process.exitCode = 1
}

try {
  await main()
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`)
  process.exitCode = 2
}
