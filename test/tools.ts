import { accessSync, appendFileSync, constants } from 'node:fs'
import { basename, join } from 'node:path'

/** The outside tools that tests need, each with the Debian package that it is in; every Debian has the others. */
export const packages = {
  bsdtar: 'libarchive-tools',
  'ceph-mgr': 'ceph-mgr',
  'ceph-mon': 'ceph-mon',
  'ceph-osd': 'ceph-osd',
  chromium: 'chromium',
  curl: 'curl',
  'mkfs.btrfs': 'btrfs-progs',
  'mkfs.xfs': 'xfsprogs',
  mount: 'mount',
  nginx: 'nginx-light',
  python3: 'python3',
  radosgw: 'radosgw',
  setpriv: 'util-linux',
  unshare: 'util-linux',
  unzip: 'unzip',
  zipinfo: 'unzip',
} as const

export type Tool = keyof typeof packages

/** What an S3 server of our own consists of. */
export const ceph = ['ceph-mon', 'ceph-mgr', 'ceph-osd', 'radosgw'] as const satisfies Tool[]

/** The files whose tests all need a tool. Where only some do, the test itself says so, by `needing`. */
export const needsOfFiles: Record<string, readonly Tool[]> = {
  'test/archive-large.test.ts': ['bsdtar', 'curl', 'python3', 'unzip'],
  'test/behind-nginx.test.ts': ['nginx'],
  'test/full-disk.test.ts': ['mount', 'unshare'],
  'test/quickstart.test.ts': ['curl', ...ceph],
  'test/s3-archive.test.ts': ['bsdtar', ...ceph],
  'test/tus-browser.test.ts': ['chromium'],
  ...Object.fromEntries(
    [
      'example-opendal',
      's3-capabilities',
      's3-conformance',
      's3-contention',
      's3-copies',
      's3-errors',
      's3-faults',
      's3-log-join',
      's3-moves',
      's3-pages',
      's3-redirect',
      's3-service',
      's3-upload-begin',
      's3',
    ].map((name) => [`test/${name}.test.ts`, ceph]),
  ),
}

/** Debian has some of them where an ordinary user's PATH does not lead. */
const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']

/** Those of `tools` that this machine does not have. An S3 server that is named by the environment needs no Ceph. */
export function missing(tools: readonly Tool[]): Tool[] {
  const wanted = process.env.S3_ENDPOINT ? tools.filter((tool) => !(ceph as readonly Tool[]).includes(tool)) : tools
  return wanted.filter((tool) => !directories.some((directory) => isExecutable(join(directory, tool))))
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Where the tests that are left out are written down, a line each, for the end of the run. */
export const leftOutVariable = 'TESTS_LEFT_OUT'

/**
 * Options of a test that needs tools: without them it is left out, and said so at the end of the run. In CI nothing is
 * left out: such a test fails.
 */
export function needing(...tools: Tool[]): { skip?: string } {
  const lacking = missing(tools)
  if (lacking.length === 0 || process.env.CI === 'true') return {}
  const file = process.env[leftOutVariable]
  if (file !== undefined)
    appendFileSync(file, `a test of ${basename(process.argv[1] ?? '')} needs ${lacking.join(', ')}\n`)
  return { skip: `needs ${lacking.join(', ')}` }
}
