import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Bench, Bound, Measured, Row } from './row.ts'
import { tar, zip } from './rows/archive.ts'
import { audit, story } from './rows/audit.ts'
import { backendAi1g, backendAi4k, backendAiUpload } from './rows/backend-ai.ts'
import { besideAHang } from './rows/beside-a-hang.ts'
import { nativeUsage, snapshotClone } from './rows/btrfs.ts'
import { clone } from './rows/clone.ts'
import { copyTree } from './rows/copy-tree.ts'
import { deletion } from './rows/delete.ts'
import { download1g } from './rows/download-1g.ts'
import { download4k, download4kAiohttp } from './rows/download-4k.ts'
import { jobClaims, jobClaimsPostgres } from './rows/job-claims.ts'
import { jobStart } from './rows/job-start.ts'
import { listAll, listPage } from './rows/list-million.ts'
import { memoryArchive } from './rows/memory-archive.ts'
import { memoryDownloads } from './rows/memory-downloads.ts'
import { memoryPut } from './rows/memory-put.ts'
import { memoryUpload } from './rows/memory-upload.ts'
import { metrics } from './rows/metrics.ts'
import { put, putNginx } from './rows/put.ts'
import { downloadBesidePuts, form4k, put4k, put4kEvents, put4kOne, put4kPostgres, tus4k } from './rows/put-4k.ts'
import { requestId } from './rows/request-id.ts'
import { s3Clone } from './rows/s3-clone.ts'
import { s3CopyTree } from './rows/s3-copy-tree.ts'
import { s3Download } from './rows/s3-download.ts'
import { s3List } from './rows/s3-list.ts'
import { s3Memory } from './rows/s3-memory.ts'
import { s3Upload } from './rows/s3-upload.ts'
import { download4kPostgres, workers } from './rows/several.ts'
import { tracing } from './rows/tracing.ts'
import { trash } from './rows/trash.ts'
import { tus } from './rows/tus.ts'
import { usage } from './rows/usage.ts'
import { usageLoad } from './rows/usage-load.ts'

const rows: Row[] = [
  download1g,
  download4k,
  download4kAiohttp,
  workers,
  download4kPostgres,
  requestId,
  metrics,
  audit,
  story,
  tracing,
  memoryDownloads,
  memoryUpload,
  memoryPut,
  put,
  putNginx,
  put4k,
  put4kPostgres,
  put4kOne,
  put4kEvents,
  form4k,
  tus4k,
  downloadBesidePuts,
  besideAHang,
  tus,
  backendAi1g,
  backendAi4k,
  backendAiUpload,
  usage,
  usageLoad,
  nativeUsage,
  listPage,
  listAll,
  jobStart,
  jobClaims,
  jobClaimsPostgres,
  clone,
  snapshotClone,
  copyTree,
  deletion,
  trash,
  zip,
  tar,
  memoryArchive,
  s3Download,
  s3Upload,
  s3Memory,
  s3Clone,
  s3CopyTree,
  s3List,
]

const { positionals: names } = parseArgs({ allowPositionals: true })
const unknown = names.filter((name) => !rows.some((row) => row.name === name))
if (unknown.length > 0) throw new Error(`no such row: ${unknown}; there are ${rows.map((row) => row.name).join(', ')}`)

const table: Record<string, string>[] = []
for (const row of rows) {
  if (names.length > 0 && !names.includes(row.name)) continue
  process.stderr.write(`${row.name} …\n`)
  const measured = await run(row)
  const kept = keeps(measured, row.bound)
  if (!kept) process.exitCode = 1
  const result = { ...columns(measured), bound: text(row.bound), result: kept ? 'ok' : 'MISSED' }
  // Rows that come later may take long, or fail.
  process.stderr.write(`${Object.values(result).filter(Boolean).join(', ')}\n`)
  table.push({ row: row.name, what: row.what, ...result })
}
console.table(table)

async function run(row: Row): Promise<Measured> {
  const directory = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'storage-proxy-bench-'))
  const cleanups: (() => unknown)[] = [() => rm(directory, { recursive: true, force: true })]
  const bench: Bench = { directory, cleanup: (fn) => cleanups.push(fn) }
  try {
    return await row.measure(bench)
  } finally {
    for (const fn of cleanups.reverse()) await fn()
  }
}

function keeps(measured: Measured, bound: Bound): boolean {
  if ('peakMiB' in measured) return 'belowMiB' in bound && measured.peakMiB < bound.belowMiB
  if ('milliseconds' in measured) return 'belowMilliseconds' in bound && measured.milliseconds < bound.belowMilliseconds
  const ratio = measured.ours / measured.peer
  if ('atLeast' in bound) return ratio >= bound.atLeast
  return 'atMost' in bound && ratio <= bound.atMost
}

function columns(measured: Measured): Record<string, string> {
  if ('peakMiB' in measured) return { ours: `${measured.peakMiB.toFixed(0)} MiB` }
  if ('milliseconds' in measured) return { ours: measured.told }
  const { ours, peer, unit } = measured
  const digits = { maximumSignificantDigits: 3 }
  const value = (number: number) => `${number.toLocaleString('en', digits)} ${unit}`
  return { ours: value(ours), peer: value(peer), ratio: (ours / peer).toFixed(2) }
}

function text(bound: Bound): string {
  if ('atLeast' in bound) return `≥ ${bound.atLeast}`
  if ('atMost' in bound) return `≤ ${bound.atMost}`
  return 'belowMiB' in bound ? `< ${bound.belowMiB} MiB` : `< ${bound.belowMilliseconds} ms`
}
