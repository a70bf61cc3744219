import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FolderNumbers } from '../backends/definition.ts'
import { type Teardown, temporaryDirectory } from './server.ts'

/**
 * In the place of xfs_quota(8), for a kernel that has XFS without quotas: limits are remembered and not kept, and what a
 * project has is what is in the directories that were given to it. All else is done by the real program, and all is
 * printed in its form. What it is asked for is in the file `asked`, what it is told to do wrong in the file `wrong`.
 */
const script = `#!/bin/sh
state=STATE
for last; do mount=$last; done
echo "$*" >> "$state/asked"
[ -e "$state/wrong" ] && . "$state/wrong"
device=/dev/loop0 passed=
while [ $# -gt 1 ]; do
  if [ "$1" != -c ]; then shift; continue; fi
  command=$2
  shift 2
  project=\${command##* }
  case $command in
  state*)
    printf 'Project quota state on %s (%s)\\n  Accounting: ON\\n  Enforcement: ON\\n' "$mount" "$device"
    printf '  Inode: #131 (1 blocks, 1 extents)\\nBlocks grace time: [7 days]\\nBlocks max warnings: 0\\n'
    ;;
  limit*)
    bhard=\${command##*bhard=} ihard=\${command##*ihard=}
    echo "$((\${bhard%% *} / 1024)) \${ihard%% *}" > "$state/limit-$project"
    ;;
  quota*)
    [ "$project" = 0 ] || [ -e "$state/limit-$project" ] || [ -e "$state/directory-$project" ] || continue
    limits='0 0' used='0 0'
    [ -e "$state/limit-$project" ] && read -r limits < "$state/limit-$project"
    if [ -e "$state/directory-$project" ]; then
      read -r directory < "$state/directory-$project"
      used=$(find "$directory" -printf '%b\\n' 2>/dev/null | awk '{ sum += $1 } END { print int(sum / 2), NR }')
    fi
    printf '%-19s %10s %10s %10s   %02d %9s  %10s %10s %10s   %02d %9s %s\\n' "$device" \\
      \${used% *} 0 \${limits% *} 0 '[--------]' \${used#* } 0 \${limits#* } 0 '[--------]' "$mount"
    ;;
  project*-s*'-d 0'*)
    pwd > "$state/directory-$project"
    passed="$passed;$command"
    ;;
  *) passed="$passed;$command" ;;
  esac
done
[ -z "$passed" ] && exit
IFS=';'
set -f -- \${passed#;}
for command; do set -- "$@" -c "$command"; shift; done
exec xfs_quota -x -D /dev/null -P /dev/null "$@" "$mount"
`

/** The fake program, to be given as the volume's `program`, and the directory with what it remembers. */
export async function fakeXfsQuota(t: Teardown): Promise<{ program: string[]; state: string }> {
  const state = await temporaryDirectory(t)
  const file = join(state, 'xfs_quota')
  writeFileSync(file, script.replace('STATE', state), { mode: 0o755 })
  return { program: [file], state }
}

/** Numbers as the service gives them. */
export function countingNumbers(): FolderNumbers {
  const numbers = new Map<string, number>()
  let last = 0
  return {
    find: async (folder) => numbers.get(folder),
    async allot(folder, { taken, skip } = { taken: 0, skip: 1 }) {
      const known = numbers.get(folder)
      if (known !== undefined && known !== taken) return known
      last += skip
      numbers.set(folder, last)
      return last
    },
    async forget(folder) {
      numbers.delete(folder)
    },
  }
}
