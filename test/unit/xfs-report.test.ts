import t from 'tap'
import { parseCheck, parseQuota, parseState } from '../../backends/xfs/report.ts'

// As xfs_quota 6.1.0 of Debian 12 prints it: on Linux 6.1 with an XFS mounted with prjquota, except the numbers of
// `lines`, for which the kernel's answers were made up.

const lines = [
  {
    output:
      '/dev/vdb                     0          0       1024   00 [--------]          10          0         10   00 [--------] /run/m\n',
    quota: { bytes: 0, maxBytes: 1024 * 1024, inodes: 10, maxInodes: 10 },
  },
  {
    output:
      '/dev/loop0                   0          0          0   00 [--------]           0          0          0   00 [--------] /srv/storage\n',
    quota: { bytes: 0, maxBytes: 0, inodes: 0, maxInodes: 0 },
  },
  {
    output:
      '/dev/loop0             2097156          0    2097152   00 [--none--]        1001          0       1000   00 [--none--] /srv/storage\n',
    quota: { bytes: 2097156 * 1024, maxBytes: 2097152 * 1024, inodes: 1001, maxInodes: 1000 },
  },
  {
    output:
      '/dev/loop0                 150        100        200   03  [5 days]          20         10         30   00 [00:50:00] /srv/storage\n',
    quota: { bytes: 150 * 1024, maxBytes: 200 * 1024, inodes: 20, maxInodes: 30 },
  },
  {
    // Wider than its columns.
    output:
      '/dev/loop0          1500000000000 0 9007199254740   00 [--------]  4000000000          0 5000000000   00 [--------] /srv/m 2/x\n',
    quota: { bytes: 1500000000000 * 1024, maxBytes: 9007199254740 * 1024, inodes: 4e9, maxInodes: 5e9 },
  },
  {
    output:
      '/dev/mapper/vg0-storage--proxy--volumes\n' +
      '                          2048          0    1048576   00 [--------]           7          0          0   00 [--------] /srv/storage\n',
    quota: { bytes: 2048 * 1024, maxBytes: 1048576 * 1024, inodes: 7, maxInodes: 0 },
  },
]

const checked =
  'Checking project 1000007 (path .)...\n' +
  'Processed 1 (/dev/null and cmdline) paths for project 1000007 with recursion depth limited (0).\n'
const notOfProject =
  'Checking project 1000008 (path .)...\n' +
  '. - project identifier is not set (inode=1000007, tree=1000008)\n' +
  'Processed 1 (/dev/null and cmdline) paths for project 1000008 with recursion depth limited (0).\n'
const notInherited =
  'Checking project 1000007 (path .)...\n' +
  '. - project inheritance flag is not set\n' +
  'Processed 1 (/dev/null and cmdline) paths for project 1000007 with recursion depth limited (0).\n'

t.test('what a project has and may have', async (t) => {
  for (const { output, quota } of lines) {
    t.same(parseQuota(output), quota, output)
    t.same(parseQuota(notOfProject + output), quota, 'behind another command')
  }
  for (const nothing of [
    '',
    '\n',
    checked,
    'Disk quotas for Project #7 (7)\n',
    '/dev/vdb 1 2 3 00 [--------] /run/m\n',
  ]) {
    t.equal(parseQuota(nothing), undefined, nothing)
  }
})

t.test('whether projects are counted and limited', async (t) => {
  const state = (accounting: string, enforcement: string) =>
    'Project quota state on /run/m (/dev/vdb)\n' +
    `  Accounting: ${accounting}\n  Enforcement: ${enforcement}\n` +
    '  Inode: #131 (1 blocks, 1 extents)\n' +
    'Blocks grace time: [7 days]\nBlocks max warnings: 0\nInodes grace time: [7 days]\nInodes max warnings: 0\n' +
    'Realtime Blocks grace time: [7 days]\n'
  t.same(parseState(state('ON', 'ON')), { counts: true, limits: true })
  t.same(parseState(state('ON', 'OFF')), { counts: true, limits: false })
  t.same(parseState(state('OFF', 'OFF')), { counts: false, limits: false })
  t.same(parseState(''), { counts: false, limits: false }, 'mounted with noquota')
  t.same(parseState('Project quota are not enabled on /dev/loop0\n'), { counts: false, limits: false })
  t.same(parseState(state('ON', 'ON').replace('Project', 'User')), { counts: false, limits: false })
})

t.test('whether a directory is of a project', async (t) => {
  t.equal(parseCheck(checked), true)
  t.equal(parseCheck(notOfProject), false)
  t.equal(parseCheck(notInherited), false)
  t.equal(parseCheck(''), false)
  t.equal(parseCheck(`${checked}${lines[0]!.output}`), true)
})
