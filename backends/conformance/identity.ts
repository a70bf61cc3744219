import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { CasesWith } from './capabilities.ts'
import { call } from './subject.ts'

export const readIdentity: CasesWith<'readIdentity'> = {
  'what cannot be written cannot be read': async (_subject, backend) => {
    if (backend.writeIdentity === undefined) assert.equal(await backend.readIdentity(call), undefined)
  },
}

export const writeIdentity: CasesWith<'writeIdentity'> = {
  'another backend over the same storage reads it, and the latest one': async (subject, backend) => {
    for (const text of ['first\n', '{"a": "longer than the first"}\n', '']) {
      await backend.writeIdentity(text, call)
      assert.equal(await (await subject.reopen()).readIdentity?.(call), text)
    }
    assert.deepEqual(await subject.keys(), [], 'it is no entry of a vfolder')
  },
}

export const listFolders: CasesWith<'listFolders'> = {
  'those that were made are listed, once each, and go on after any of them': async (subject, backend) => {
    const made = [subject.folder]
    while (made.length < 5) made.push(await subject.newFolder())
    await subject.write('dir/file', 'content')
    const all = await listed(backend, {})
    assert.deepEqual(
      made.filter((id) => !all.includes(id)),
      [],
    )
    assert.equal(new Set(all).size, all.length)
    for (const id of made) assert.deepEqual(await listed(backend, { after: id }), all.slice(all.indexOf(id) + 1))
  },

  'one that was removed is not': async (subject, backend) => {
    const folder = await subject.newFolder()
    await backend.removeFolder(folder, call)
    const all = await listed(backend, {})
    assert.ok(all.includes(subject.folder) && !all.includes(folder))
  },
}

export const folderOf: CasesWith<'folderOf'> = {
  'a vfolder has the same name each time, its own in each scope, with its ID at the end': async (subject, backend) => {
    const [id, scope] = [randomUUID(), `project:${randomUUID()}`]
    const name = backend.folderOf(id, scope)
    assert.equal(name?.slice(name.lastIndexOf('/') + 1), id)
    assert.equal(backend.folderOf(id, scope), name)
    assert.equal((await subject.reopen()).folderOf?.(id, scope), name)
    assert.notEqual(backend.folderOf(id, `project:${randomUUID()}`), name)
  },

  'none can be in no scope': async (_subject, backend) => {
    assert.equal(backend.folderOf(randomUUID(), null), undefined)
  },

  'it is listed by this name': async (subject, backend) => {
    if (backend.listFolders === undefined) return
    for await (const name of backend.listFolders(call)) if (name === subject.folder) return
    assert.fail(`${subject.folder} is not listed`)
  },
}

async function listed(
  backend: { listFolders(options: typeof call & { after?: string }): AsyncIterable<string> },
  options: { after?: string },
): Promise<string[]> {
  const ids: string[] = []
  for await (const id of backend.listFolders({ ...call, ...options })) ids.push(id)
  return ids
}
