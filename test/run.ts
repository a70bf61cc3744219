import { spawnSync } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { leftOutVariable, missing, needsOfFiles, packages, type Tool } from './tools.ts'

// `npm test`: looks for the outside tools that the tests need, brings what it may, and runs all that can run.

const inCi = process.env.CI === 'true'
const allTools = Object.keys(packages).filter((name): name is Tool => name in packages)

/** What `npm run test:quick` leaves out: what needs a server of others or a filesystem of its own, and what takes long. */
const slow =
  /\/(s3|archive|behind|example|tus|job-faults|jobs|clone|quotas|small-files|crash|reused|timeouts|full|transfers|shutdown|symlink-race|pacing|quickstart|upload|put|same-id|cleanup|large|bulk|download-streams|edge|reflink|listing|early)/

function installMissing(tools: Tool[]): void {
  const names = [...new Set(tools.map((tool) => packages[tool]))].join(' ')
  const command = `apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${names}`
  const mayInstall = process.getuid?.() === 0 && spawnSync('apt-get', ['--version']).status === 0
  if (mayInstall) {
    process.stdout.write(`# Installing what the tests need and this machine lacks: ${names}\n`)
    spawnSync('sh', ['-c', command], { stdio: ['ignore', 'ignore', 'inherit'] })
  }
  const left = missing(tools)
  if (left.length === 0) return
  const table = left.map((tool) => `#   ${tool.padEnd(12)} ${packages[tool]}`).join('\n')
  const bring = `apt-get install --no-install-recommends ${[...new Set(left.map((tool) => packages[tool]))].join(' ')}`
  process.stdout.write(`# This machine lacks tools (left) of Debian packages (right):\n${table}\n# ${bring}\n`)
}

function testFiles(quick: boolean): string[] {
  return globSync('test/**/*.test.ts').filter((file) => !quick || !slow.test(`/${file.slice('test/'.length)}`))
}

function runTap(args: string[], leftOut: string): number {
  const env = { ...process.env, [leftOutVariable]: leftOut }
  const { status, error } = spawnSync('tap', args, { stdio: 'inherit', env })
  if (error) process.stderr.write(`tap cannot be started: ${error.message}\n`)
  return status ?? 1
}

function main(args: string[]): number {
  const lacking = missing(allTools)
  if (lacking.length > 0) installMissing(lacking)
  const still = missing(allTools)
  if (inCi && still.length > 0) {
    process.stderr.write(`In CI nothing is left out, and this machine has no ${still.join(', ')}.\n`)
    return 1
  }
  const quick = args[0] === '--quick'
  const given = quick ? args.slice(1) : args
  const files = given.some((arg) => arg.endsWith('.ts')) ? [] : testFiles(quick)
  const unable = files.filter((file) => missing(needsOfFiles[file] ?? []).length > 0)
  const directory = mkdtempSync(join(tmpdir(), 'storage-proxy-tests-'))
  const leftOut = join(directory, 'left-out')
  writeFileSync(
    leftOut,
    unable.map((file) => `${file} needs ${missing(needsOfFiles[file] ?? []).join(', ')}\n`).join(''),
  )
  try {
    const status = runTap([...given, ...files.filter((file) => !unable.includes(file))], leftOut)
    report(readFileSync(leftOut, 'utf8'))
    return status
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function report(lines: string): void {
  const reasons = lines.split('\n').filter(Boolean)
  if (reasons.length === 0) return
  process.stdout.write(`# Left out, since tools are missing: ${reasons.length}\n`)
  for (const reason of new Set(reasons)) process.stdout.write(`#   ${reason}\n`)
}

process.exitCode = main(process.argv.slice(2))
