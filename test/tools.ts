import { spawnSync } from 'node:child_process'
import { accessSync, appendFileSync, constants, globSync } from 'node:fs'
import { basename, join } from 'node:path'

/** The outside programs that tests need, each with the Debian package that has it; every Debian has the others. */
export const packages = {
  bindfs: 'bindfs',
  bsdtar: 'libarchive-tools',
  btrfs: 'btrfs-progs',
  ceph: 'ceph-common',
  'ceph-authtool': 'ceph-common',
  'ceph-fuse': 'ceph-fuse',
  'ceph-mds': 'ceph-mds',
  'ceph-mgr': 'ceph-mgr',
  'ceph-mon': 'ceph-mon',
  'ceph-osd': 'ceph-osd',
  chattr: 'e2fsprogs',
  chromium: 'chromium',
  curl: 'curl',
  fallocate: 'util-linux',
  fusermount3: 'fuse3',
  getfattr: 'attr',
  initdb: 'postgresql',
  losetup: 'mount',
  lsattr: 'e2fsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  'mkfs.xfs': 'xfsprogs',
  monmaptool: 'ceph-base',
  mount: 'mount',
  nginx: 'nginx-light',
  nsenter: 'util-linux',
  openssl: 'openssl',
  pgbouncer: 'pgbouncer',
  postgres: 'postgresql',
  promtool: 'prometheus',
  python3: 'python3',
  'python3-aiohttp': 'python3-aiohttp',
  'python3-fusepy': 'python3-fusepy',
  'python3-tuspy': 'python3-tuspy',
  radosgw: 'radosgw',
  'radosgw-admin': 'ceph-common',
  'redis-server': 'redis-server',
  setfattr: 'attr',
  setpriv: 'util-linux',
  strace: 'strace',
  'systemd-analyze': 'systemd',
  umount: 'mount',
  unshare: 'util-linux',
  unzip: 'unzip',
  xfs_quota: 'xfsprogs',
  zipinfo: 'unzip',
  zstd: 'zstd',
} as const

export type Tool = keyof typeof packages

const isRoot = process.getuid?.() === 0

/** Runs a command with mounts of its own, which end with it. */
export const withOwnMounts = isRoot ? ['unshare', '--mount'] : ['unshare', '--map-root-user', '--mount']

/** Runs a command among the mounts of a process that was started so, also where the root is not the host's. */
export function amongMountsOf(pid: number | undefined): string[] {
  const user = isRoot ? [] : ['--user', '--preserve-credentials']
  return ['nsenter', '--target', String(pid), '--mount', '--root', ...user]
}

/** Runs a command as a user whom the modes of files and directories bind, which root is not. */
export const withoutRoot = isRoot ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : []

/** Runs a command as a user who may not give files to others, which root may. */
export const withoutOwnership = isRoot ? ['setpriv', '--bounding-set=-chown,-fowner,-fsetid'] : []

/** The rights that tests need on the machine, each with a command that tries it. */
const trials = {
  FUSE: isRoot ? ['test', '-w', '/dev/fuse'] : ['false'],
  'loop devices': isRoot ? ['losetup', '--find'] : ['false'],
  'mounts of its own': [...withOwnMounts, 'mount', '-t', 'tmpfs', 'none', '/tmp'],
} as const

export type Need = Tool | keyof typeof trials

/** The programs of an S3 server of our own. */
const cephPrograms = [
  'ceph',
  'ceph-authtool',
  'ceph-mgr',
  'ceph-mon',
  'ceph-osd',
  'monmaptool',
  'radosgw',
  'radosgw-admin',
] as const satisfies Tool[]

const { S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_REGION = 'us-east-1' } = process.env

/** The S3 server that the environment names as a whole; without it the tests start Ceph's gateway. */
export const namedS3Server =
  S3_ENDPOINT && S3_BUCKET && S3_ACCESS_KEY_ID && S3_SECRET_ACCESS_KEY
    ? {
        endpoint: S3_ENDPOINT,
        region: S3_REGION,
        bucket: S3_BUCKET,
        accessKeyId: S3_ACCESS_KEY_ID,
        secretAccessKey: S3_SECRET_ACCESS_KEY,
      }
    : undefined

const anyS3Server = namedS3Server === undefined ? cephPrograms : []

const cephfsMounts = [
  ...cephPrograms,
  'ceph-fuse',
  'ceph-mds',
  'getfattr',
  'setfattr',
  'umount',
  'FUSE',
] as const satisfies Need[]

const btrfsImage = ['btrfs', 'losetup', 'mkfs.btrfs', 'mount', 'umount', 'loop devices'] as const satisfies Need[]
const xfsImage = ['losetup', 'mkfs.xfs', 'mount', 'umount', 'xfs_quota', 'loop devices'] as const satisfies Need[]

/** The files whose tests all need a tool. If only some tests do, they say so themselves, by `needing`. */
export const needsOfFiles: Record<string, readonly Need[]> = {
  'archive-large': ['bsdtar', 'curl', 'python3', 'unzip'],
  'backend-ai-browser': ['chromium'],
  'background-crash': anyS3Server,
  'behind-nginx': ['nginx'],
  'backend-ai-projects': ['chattr', 'losetup', 'lsattr', 'mkfs.xfs', 'mount', 'umount', 'loop devices'],
  btrfs: [...btrfsImage, 'fallocate'],
  'btrfs-conformance': btrfsImage,
  cephfs: [...cephfsMounts, 'initdb', 'postgres'],
  'cephfs-conformance': cephfsMounts,
  cluster: ['initdb', 'nginx', 'postgres'],
  'copy-directory': anyS3Server,
  dashboards: ['promtool'],
  'example-opendal': anyS3Server,
  'extended-attributes': ['getfattr', 'setfattr'],
  nfs: ['bindfs', 'fusermount3', 'python3-fusepy', 'FUSE'],
  'nfs-conformance': ['fusermount3', 'python3-fusepy', 'FUSE'],
  'mount-goes': ['bindfs', 'fusermount3', 'FUSE'],
  'mount-hangs': ['bindfs', 'fusermount3', 'FUSE'],
  'mount-programs': ['bindfs', 'fusermount3', 'FUSE'],
  'full-disk': ['mount', 'unshare', 'mounts of its own'],
  'many-entries': anyS3Server,
  metrics: ['promtool'],
  'postgres-concurrency': ['initdb', 'postgres'],
  'postgres-outage': ['initdb', 'postgres'],
  'postgres-pooler': ['initdb', 'pgbouncer', 'postgres'],
  'postgres-start': ['initdb', 'postgres'],
  quickstart: ['curl', ...anyS3Server],
  s3: anyS3Server,
  's3-archive': ['bsdtar', ...anyS3Server],
  's3-capabilities': anyS3Server,
  's3-conformance': anyS3Server,
  's3-contention': anyS3Server,
  's3-copies': anyS3Server,
  's3-errors': anyS3Server,
  's3-faults': anyS3Server,
  's3-log-join': cephPrograms,
  's3-moves': anyS3Server,
  's3-pages': anyS3Server,
  's3-redirect': anyS3Server,
  's3-service': anyS3Server,
  's3-trash': anyS3Server,
  's3-upload-begin': anyS3Server,
  'tus-browser': ['chromium'],
  valkey: ['redis-server'],
  xfs: [...xfsImage, 'lsattr'],
  'xfs-conformance': xfsImage,
  'xfs-service': [...xfsImage, 'lsattr'],
}

/** The needs of all tests of a file. */
export function needsOf(file: string): readonly Need[] {
  return needsOfFiles[basename(file, '.test.ts')] ?? []
}

/** All that any test needs. */
export const allNeeds: readonly Need[] = Object.keys({ ...packages, ...trials }).filter(isNeed)

function isNeed(name: string): name is Need {
  return name in packages || name in trials
}

export function isTool(need: Need): need is Tool {
  return need in packages
}

/** Debian has some of them where an ordinary user's PATH does not lead, in directories that come with them. */
function directories(): string[] {
  return [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin', ...globSync('/usr/lib/postgresql/*/bin')]
}

export const searchPath = directories().join(':')

/** Those of `needs` that this machine does not have. */
export function missing(needs: readonly Need[]): Need[] {
  return needs.filter((need) => !(isTool(need) ? isInstalled(need) : isAllowed(trials[need])))
}

function isAllowed([command = '', ...args]: readonly string[]): boolean {
  const env = { PATH: directories().join(':') }
  return spawnSync(command, args, { env, stdio: 'ignore' }).status === 0
}

/** What is no program, with a command that needs it. */
const modules: Record<string, readonly string[]> = {
  'python3-aiohttp': ['/usr/bin/python3', '-c', 'import aiohttp'],
  'python3-fusepy': ['/usr/bin/python3', '-c', 'import fusepy'],
  'python3-tuspy': ['/usr/bin/python3', '-c', 'import tusclient'],
}

function isInstalled(program: string): boolean {
  const trial = modules[program]
  if (trial !== undefined) return isAllowed(trial)
  return directories().some((directory) => isExecutable(join(directory, program)))
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The variable with the path of a file that lists the left out tests, a line each, for the end of the run. */
export const leftOutVariable = 'TESTS_LEFT_OUT'

/**
 * Options of a test that needs tools: without them it is left out, and said so at the end of the run. In CI nothing is
 * left out: such a test fails.
 */
export function needing(...needs: Need[]): { skip?: string } {
  const lacking = missing(needs)
  if (lacking.length === 0 || process.env.CI === 'true') return {}
  const file = process.env[leftOutVariable]
  if (file !== undefined)
    appendFileSync(file, `a test of ${basename(process.argv[1] ?? '')} needs ${lacking.join(', ')}\n`)
  return { skip: `needs ${lacking.join(', ')}` }
}
