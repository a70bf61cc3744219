import assert from 'node:assert/strict'
import type { Entry, ListOptions } from '../backend.ts'
import { NotFound } from '../errors.ts'
import { orderKey } from '../order.ts'
import { parsePath } from '../path.ts'
import type { CasesWith } from './capabilities.ts'
import { assertFails, call } from './subject.ts'

export const listMany: CasesWith<'listMany'> = {
  'gives the listing, many entries at a time': async (subject, backend) => {
    for (const path of ['a', 'dir-x', 'dir/a', 'dir/sub/b', 'dir/z', 'dir0', 'last']) await subject.write(path, path)
    await subject.backend.mkdir(subject.folder, parsePath('empty'), call)
    const gather = async (options: Partial<ListOptions>) => {
      const entries: Entry[] = []
      for await (const some of backend.listMany(subject.folder, { ...call, ...options })) {
        assert.ok(some.length > 0, 'each time at least one')
        entries.push(...some)
      }
      return entries
    }
    for (const options of [{}, { recursive: true }, { path: parsePath('dir') }]) {
      const all = await subject.entries(options)
      assert.deepEqual(await gather(options), all)
      for (const [index, entry] of all.entries()) {
        assert.deepEqual(await gather({ ...options, after: orderKey(entry) }), all.slice(index + 1))
        assert.deepEqual(await gather({ ...options, limit: index + 1 }), all, 'a limit changes nothing')
      }
    }
    assert.deepEqual(await gather({ path: parsePath('empty') }), [])
    await assertFails(gather({ path: parsePath('missing') }), NotFound)
  },
}
