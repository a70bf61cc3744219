import assert from 'node:assert/strict'
import { type Capability, hasCapability, optionalMembers } from '../capabilities.ts'
import { aborts } from './aborts.ts'
import { type CasesWith, capacity, clone, copy, count, mount, presign, presignUpload } from './capabilities.ts'
import { concurrency } from './concurrency.ts'
import { conditions } from './conditions.ts'
import { copyTree } from './copy-tree.ts'
import { directories, removals } from './directories.ts'
import { folders } from './folders.ts'
import { folderOf, listFolders, readIdentity, writeIdentity } from './identity.ts'
import { listMany } from './list-many.ts'
import { lists } from './lists.ts'
import { moves } from './moves.ts'
import { unusualNames } from './names.ts'
import { quota, usage } from './quota.ts'
import { readMany } from './read-many.ts'
import { reads } from './reads.ts'
import { type Cases, call, type Open, Subject } from './subject.ts'
import { symlink } from './symlinks.ts'
import { trash } from './trash.ts'
import { uploads } from './uploads.ts'
import { writes } from './writes.ts'

export interface ConformanceCase {
  name: string
  /** Rejects with an `AssertionError` that says what the backend does not do. Each has vfolders of its own. */
  run(): Promise<void>
}

const required: Record<string, Cases> = {
  vfolders: folders,
  writes,
  conditions,
  concurrency,
  reads,
  lists,
  names: unusualNames,
  directories,
  moves,
  removals,
  uploads,
  aborts,
}

const optional: { [C in Capability]: CasesWith<C> } = {
  listMany,
  readMany,
  copy,
  copyTree,
  clone,
  count,
  usage,
  quota,
  symlink,
  capacity,
  presign,
  presignUpload,
  mount,
  trash,
  readIdentity,
  writeIdentity,
  listFolders,
  folderOf,
}

/**
 * The behaviour that `Backend` promises, as cases for any test runner:
 *
 *     for (const { name, run } of await conformance(open)) test(name, run)
 *
 * They are chosen by the capabilities present: what is there must work, what is not there must be `undefined`.
 *
 * @param open makes a backend; called again, it makes another one over the same storage. Each case opens and closes its
 * own, and removes the vfolders that it made. They are for a storage that nobody else writes to, one after another.
 * @param options.pageEntries how many entries one request of the storage lists or removes at most, such as 1,000 of S3: some
 * cases make some more than that, so fewer are quicker where a storage has no such bound
 */
export async function conformance(
  open: Open,
  { pageEntries = 1000 }: { pageEntries?: number } = {},
): Promise<ConformanceCase[]> {
  const many = Math.ceil(pageEntries * 1.2)
  const toCases = (group: string, cases: Cases) => nameCases(group, cases, open, many)
  const backend = await open()
  const present = optionalMembers.filter((member) => hasCapability(backend, member))
  await backend.close()
  return [
    ...Object.entries(required).flatMap(([group, cases]) => toCases(group, cases)),
    ...present.flatMap((capability) => toCases(capability, narrowCases(capability))),
    ...toCases('backend', { 'it has what its capabilities say, and nothing else': hasExactly(present), ...itself }),
  ]
}

function nameCases(group: string, cases: Cases, open: Open, many: number): ConformanceCase[] {
  return Object.entries(cases).map(([name, run]) => ({
    name: `${group}: ${name}`,
    run: () => Subject.with(open, many, run),
  }))
}

/** The cases of a capability, as cases of any backend. */
function narrowCases<C extends Capability>(capability: C): Cases {
  const cases: CasesWith<C> = optional[capability]
  return Object.fromEntries(
    Object.entries(cases).map(([name, run]) => [
      name,
      (subject: Subject) => {
        const { backend } = subject
        assert.ok(hasCapability(backend, capability), `each backend over the storage has ${capability}`)
        return run(subject, backend)
      },
    ]),
  )
}

const hasExactly =
  (present: Capability[]) =>
  async ({ backend }: Subject) => {
    for (const capability of optionalMembers) {
      const type = present.includes(capability) ? 'function' : 'undefined'
      assert.equal(typeof backend[capability], type, capability)
    }
  }

const itself: Cases = {
  'its limits are numbers that do not change': async ({ backend: { limits } }) => {
    assert.ok(Number.isSafeInteger(limits.maxFileBytes) && limits.maxFileBytes > 0)
    assert.ok(Object.isFrozen(limits))
  },

  'it is well': async ({ backend }) => {
    await backend.health(call)
  },
}
