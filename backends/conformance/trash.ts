import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Capable } from '../capabilities.ts'
import { AlreadyExists, NotFound } from '../errors.ts'
import { parsePath } from '../path.ts'
import type { CasesWith } from './capabilities.ts'
import { assertFails, call, type Subject } from './subject.ts'

export const trash: CasesWith<'trash'> = {
  'what is moved into the trash is seen in the trash alone, and comes back as it was': async (subject, backend) => {
    for (const path of ['dir/a', 'dir/sub/b', 'stays']) await subject.write(path, path)
    const modifiedAt = new Date('2020-01-02T03:04:05Z')
    await subject.write('dir/old', 'of another time', { modifiedAt, mode: 0o640 })
    await backend.mkdir(subject.folder, parsePath('dir/empty'), call)
    const before = await subject.entries({ recursive: true })
    const place = await makeTrash(subject, backend)
    await moveIn(subject, place, 'dir', 'item')
    assert.deepEqual(await subject.keys(), ['stays'])
    if (backend.count) assert.deepEqual(await backend.count(subject.folder, call), { files: 1, bytes: 5 })
    const inside = ['item/', 'item/a', 'item/empty/', 'item/old', 'item/sub/', 'item/sub/b']
    assert.deepEqual(await subject.keys({ recursive: true }, place), inside)
    await moveOut(subject, place, 'item', 'dir')
    assert.deepEqual(await subject.keys({ recursive: true }, place), [])
    const keepsTimes = before.find(({ path }) => path === 'dir/old')?.modifiedAt.getTime() === modifiedAt.getTime()
    const comparable = ({ path, type, size, mode, modifiedAt }: (typeof before)[number]) => {
      const isKept = keepsTimes && type === 'file'
      return { path, type, size, mode, ...(isKept && { modifiedAt }) }
    }
    assert.deepEqual((await subject.entries({ recursive: true })).map(comparable), before.map(comparable))
    assert.equal(await subject.text('dir/sub/b'), 'dir/sub/b')
  },

  'entries of one name are in the trash under names of their own': async (subject, backend) => {
    const place = await makeTrash(subject, backend)
    for (const content of ['first', 'second']) {
      await subject.write('file', content)
      await moveIn(subject, place, 'file', content)
    }
    assert.deepEqual(await subject.keys(), [])
    await moveOut(subject, place, 'second', 'file')
    await assertFails(moveOut(subject, place, 'first', 'file'), AlreadyExists)
    assert.equal(await subject.text('file'), 'second')
    assert.equal(await subject.text('first', place), 'first')
    await backend.remove(place, parsePath('first'), call)
    await assertFails(moveOut(subject, place, 'first', 'other'), NotFound)
  },

  'a trash that is made again keeps what is in it, and another backend sees it': async (subject, backend) => {
    await subject.write('file', 'content')
    const place = await makeTrash(subject, backend)
    await moveIn(subject, place, 'file', 'item')
    assert.equal(await makeTrash(subject, backend), place)
    const other = await subject.reopen()
    assert.equal(other.trash?.(subject.folder), place)
    assert.equal((await other.stat(place, parsePath('item'), call)).size, 7)
    assert.notEqual(backend.trash(await subject.newFolder()), place)
  },

  'garbage collection leaves it alone, and the list of vfolders does not have it': async (subject, backend) => {
    await subject.write('dir/file', 'content')
    const place = await makeTrash(subject, backend)
    await moveIn(subject, place, 'dir', 'item')
    await sleep(1100)
    await backend.collectGarbage({ ...call, idleSeconds: 1 })
    assert.equal(await subject.text('item/file', place), 'content')
    if (backend.listFolders === undefined) return
    for await (const id of backend.listFolders(call)) assert.notEqual(id, place)
  },

  'it goes with its vfolder': async (subject, backend) => {
    for (const path of ['dir/a', 'dir/b']) await subject.write(path, path)
    const place = await makeTrash(subject, backend)
    await moveIn(subject, place, 'dir', 'item')
    await backend.removeFolder(subject.folder, call)
    await assertFails(backend.stat(place, parsePath('item'), call), NotFound)
    await backend.createFolder(subject.folder, call)
    assert.deepEqual(await subject.keys({ recursive: true }, await makeTrash(subject, backend)), [])
  },
}

async function makeTrash({ folder }: Subject, backend: Capable<'trash'>): Promise<string> {
  const place = backend.trash(folder)
  await backend.createFolder(place, call)
  return place
}

function moveIn({ backend, folder }: Subject, place: string, path: string, item: string) {
  return backend.move(folder, parsePath(path), parsePath(item), { ...call, toFolder: place })
}

function moveOut({ backend, folder }: Subject, place: string, item: string, path: string) {
  return backend.move(place, parsePath(item), parsePath(path), { ...call, toFolder: folder })
}
