import { spawnSync } from 'node:child_process'
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { bundleService } from './bundle.ts'
import { bundleVariable, compileCache } from './server.ts'
import { together } from './together.ts'
import { allNeeds, isTool, leftOutVariable, missing, type Need, needsOf, packages, type Tool } from './tools.ts'

// `npm test`: looks for the outside tools that the tests need, brings what it may, and runs all that can run.

/** A run's own files are below it, so that two runs at once do not meet. */
const cache = dirname(compileCache)

const inCi = process.env.CI === 'true'

/**
 * The files that `npm run test:quick` runs: the quick ones for each part of the service, which need no other server.
 */
const quickFiles = [
  'faults/early-answers',
  'http/archive-signing',
  'http/bad-input',
  'http/cleanup',
  'http/client-scopes',
  'http/cors',
  'http/download',
  'http/download-conditions',
  'http/download-ranges',
  'http/files',
  'http/folders',
  'http/health',
  'http/manager-auth',
  'http/methods',
  'http/openapi',
  'http/put',
  'http/request-id',
  'http/signed-urls',
  'http/symlinks',
  'http/transfers',
  'http/tus',
  'http/unknown-input',
  'http/upload',
  'storage/location',
  'storage/small-files',
].map((name) => `test/${name}.test.ts`)

/** The files that `npm run test:long` runs: they start and kill processes, wait most of their time, move gigabytes, or compile. */
const longFiles = [
  'faults/archive-changes',
  'faults/backend-ai-uploads',
  'faults/background-crash',
  'faults/cluster',
  'faults/copy-directory',
  'faults/copy-tree',
  'faults/edge-cases',
  'faults/event-processes',
  'faults/job-faults',
  'faults/many-entries',
  'faults/postgres-concurrency',
  'faults/postgres-outage',
  'faults/postgres-pooler',
  'faults/postgres-start',
  'faults/s3-faults',
  'faults/same-id',
  'faults/start',
  'faults/stuck-log',
  'faults/symlink-race',
  'faults/time-limits',
  'faults/trash',
  'faults/tus-faults',
  'faults/tus-processes',
  'faults/volume-identity',
  'faults/workers',
  'http/archive-large',
  'http/example-memory',
  'http/form-memory',
  'http/reused-memory',
  'http/tus-client',
  'http/tus-concatenation',
  'http/upload-count',
  'storage/btrfs-conformance',
  'storage/bulk',
  'storage/cephfs-conformance',
  'storage/clone',
  'storage/clone-changes',
  'storage/command-conformance',
  'storage/example-opendal',
  'storage/nfs-conformance',
  'storage/s3-capabilities',
  'storage/s3-contention',
  'storage/xfs-conformance',
].map((name) => `test/${name}.test.ts`)

/** The files that `npm run test:long` runs with PostgreSQL: state and concurrency are all that they are about. */
const databaseFiles = [
  'faults/crash',
  'faults/event-processes',
  'faults/same-id',
  'faults/trash',
  'faults/tus-processes',
  'http/audit',
  'http/cleanup',
  'http/events',
  'http/folders',
  'http/jobs',
  'http/quotas',
  'http/requests',
  'http/trash',
  'http/tus',
  'http/tus-concatenation',
  'storage/xfs-service',
].map((name) => `test/${name}.test.ts`)

const postgresTools: Need[] = ['initdb', 'postgres']

function installMissing(tools: Tool[]): void {
  if (tools.length === 0 || process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0) return
  const names = packagesOf(tools)
  const command = `apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${names}`
  process.stdout.write(`# Installing what the tests need and this machine lacks: ${names}\n`)
  spawnSync('sh', ['-c', command], { stdio: ['ignore', 'ignore', 'inherit'] })
}

function packagesOf(tools: Tool[]): string {
  return [...new Set(tools.map((tool) => packages[tool]))].join(' ')
}

/** Says what this machine lacks, and the one command that brings it. */
function reportMissing(needs: Need[]): void {
  const tools = needs.filter(isTool)
  if (tools.length > 0) {
    const table = tools.map((tool) => `#   ${tool.padEnd(12)} ${packages[tool]}`).join('\n')
    const bring = `apt-get install --no-install-recommends ${packagesOf(tools)}`
    process.stdout.write(`# This machine lacks tools (left) of Debian packages (right):\n${table}\n# ${bring}\n`)
  }
  const rights = needs.filter((need) => !isTool(need))
  if (rights.length > 0) process.stdout.write(`# This user may have no ${rights.join(', no ')}.\n`)
}

function runTap(args: string[], bundle: string, leftOut: string, more: NodeJS.ProcessEnv = {}): number {
  const ours = { NODE_COMPILE_CACHE: compileCache, [bundleVariable]: bundle, [leftOutVariable]: leftOut }
  const env = { ...process.env, ...ours, ...more }
  const { status, error } = spawnSync('tap', args, { stdio: 'inherit', env })
  if (error) process.stderr.write(`tap cannot be started: ${error.message}\n`)
  return status ?? 1
}

function filesOf(kind: '--quick' | '--long' | 'usual'): string[] {
  if (kind === '--quick') return [...globSync('test/unit/*.test.ts'), ...quickFiles]
  if (kind === '--long') return longFiles
  return globSync('test/**/*.test.ts').filter((file) => !longFiles.includes(file))
}

async function main(args: string[]): Promise<number> {
  installMissing(missing(allNeeds).filter(isTool))
  const lacking = missing(allNeeds)
  if (lacking.length > 0) reportMissing(lacking)
  if (inCi && lacking.length > 0) {
    process.stderr.write('In CI nothing is left out.\n')
    return 1
  }
  const kind = args[0] === '--quick' || args[0] === '--long' ? args[0] : 'usual'
  const given = kind === 'usual' ? args : args.slice(1)
  const files = given.some((arg) => arg.endsWith('.ts')) ? [] : filesOf(kind)
  const needed = (file: string) => needsOf(file).filter((need) => lacking.includes(need))
  const unable = files.filter((file) => needed(file).length > 0)
  mkdirSync(cache, { recursive: true })
  const directory = mkdtempSync(join(cache, 'tests-'))
  const leftOut = join(directory, 'left-out')
  writeFileSync(leftOut, unable.map((file) => `${file} needs ${needed(file).join(', ')}\n`).join(''))
  const bundle = await bundleService()
  try {
    const able = (file: string) => !unable.includes(file)
    const statuses = [runTap([...given, ...together(files.filter(able), directory)], bundle, leftOut)]
    const hasPostgres = !postgresTools.some((tool) => lacking.includes(tool))
    if (kind === '--long' && hasPostgres && process.env.TEST_DATABASE === undefined) {
      process.stdout.write('# The same with PostgreSQL, where the database matters\n')
      statuses.push(runTap([...given, ...databaseFiles.filter(able)], bundle, leftOut, { TEST_DATABASE: 'postgres' }))
    }
    report(readFileSync(leftOut, 'utf8'))
    if (kind === 'usual' && files.length > 0) {
      process.stdout.write(
        `# ${longFiles.length} files, and what is run on PostgreSQL, are left to npm run test:long\n`,
      )
    }
    return Math.max(...statuses)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function report(lines: string): void {
  const reasons = lines.split('\n').filter(Boolean)
  if (reasons.length === 0) return
  process.stdout.write(`# Left out, since this machine lacks what they need: ${reasons.length}\n`)
  for (const reason of new Set(reasons)) process.stdout.write(`#   ${reason}\n`)
}

process.exitCode = await main(process.argv.slice(2))
