import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Amount, CloneOptions, Entry } from '../backend.ts'
import type { Capability, Capable } from '../capabilities.ts'
import { AlreadyExists, IsADirectory, NotFound } from '../errors.ts'
import { orderKey } from '../order.ts'
import { parsePath } from '../path.ts'
import { digest, MiB, sharedPattern } from './bytes.ts'
import { assertFails, call, readRange, type Subject } from './subject.ts'

export type CasesWith<C extends Capability> = Record<string, (subject: Subject, backend: Capable<C>) => Promise<void>>

export const copy: CasesWith<'copy'> = {
  'a file is copied, with the directories that lead to it': async (subject, backend) => {
    for (const bytes of [0, 1000, 17 * MiB]) {
      const content = sharedPattern(bytes)
      await subject.write(`${bytes}`, content)
      const { entry, replaced } = await backend.copy(
        subject.folder,
        parsePath(`${bytes}`),
        parsePath(`a/b/${bytes}`),
        call,
      )
      assert.equal(replaced, undefined)
      assert.equal(entry.path, `a/b/${bytes}`)
      assert.equal(entry.size, bytes)
      for (const path of [`${bytes}`, `a/b/${bytes}`]) assert.equal(digest(await subject.bytes(path)), digest(content))
    }
  },

  'the copy is on its own': async (subject, backend) => {
    await subject.write('from', 'first')
    await backend.copy(subject.folder, parsePath('from'), parsePath('to'), call)
    await subject.write('from', 'second')
    assert.equal(await subject.text('to'), 'first')
    await backend.remove(subject.folder, parsePath('from'), call)
    assert.equal(await subject.text('to'), 'first')
  },

  'it replaces a file, unless ifAbsent says not to': async (subject, backend) => {
    await subject.write('from', 'new')
    await subject.write('to', 'the old one')
    await assertFails(
      backend.copy(subject.folder, parsePath('from'), parsePath('to'), { ...call, ifAbsent: true }),
      AlreadyExists,
    )
    assert.equal(await subject.text('to'), 'the old one')
    assert.equal((await backend.copy(subject.folder, parsePath('from'), parsePath('to'), call)).replaced, 11)
    assert.equal(await subject.text('to'), 'new')
    await backend.copy(subject.folder, parsePath('from'), parsePath('free'), { ...call, ifAbsent: true })
    assert.equal(await subject.text('free'), 'new')
  },

  'directories and what is not there cannot be copied': async (subject, backend) => {
    await subject.write('dir/file', 'content')
    await assertFails(backend.copy(subject.folder, parsePath('dir'), parsePath('to'), call), IsADirectory)
    await assertFails(backend.copy(subject.folder, parsePath('dir/file'), parsePath('dir'), call), IsADirectory)
    await assertFails(backend.copy(subject.folder, parsePath('missing'), parsePath('to'), call), NotFound)
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file'])
  },

  'it goes into another vfolder': async (subject, backend) => {
    const toFolder = await subject.newFolder()
    await subject.write('file', 'content')
    await backend.copy(subject.folder, parsePath('file'), parsePath('dir/file'), { ...call, toFolder })
    assert.equal(await subject.text('dir/file', toFolder), 'content')
    assert.deepEqual(await subject.keys(), ['file'])
  },

  'an aborted copy leaves nothing visible': async (subject, backend) => {
    await subject.write('from', 'content')
    await assert.rejects(
      backend.copy(subject.folder, parsePath('from'), parsePath('dir/to'), { signal: AbortSignal.abort() }),
    )
    assert.deepEqual(await subject.keys(), ['from'])
  },
}

export const clone: CasesWith<'clone'> = {
  'all entries are copied, as they are': async (subject, backend) => {
    const to = await subject.newFolder()
    await makeTree(subject)
    const { checkpoints, files, bytes, ...cloned } = await cloneInto(subject, backend, to)
    assert.deepEqual(cloned, { changed: [], changedCount: 0 })
    assertCounted({ files, bytes }, { files: 3, bytes: 9 * MiB + 7 })
    await assertSameTree(subject, to)
    for (const checkpoint of checkpoints) assert.deepEqual(JSON.parse(JSON.stringify(checkpoint)), checkpoint)
  },

  'the copy is on its own': async (subject, backend) => {
    const to = await subject.newFolder()
    await subject.write('file', 'first')
    await cloneInto(subject, backend, to)
    await subject.write('file', 'second')
    await subject.write('new', 'new')
    assert.equal(await subject.text('file', to), 'first')
    assert.deepEqual(await subject.keys({}, to), ['file'])
  },

  'an empty vfolder is cloned': async (subject, backend) => {
    const to = await subject.newFolder()
    assertCounted(await cloneInto(subject, backend, to), { files: 0, bytes: 0 })
    assert.deepEqual(await subject.keys({}, to), [])
  },

  'more entries than one request lists are cloned': async (subject, backend) => {
    const { many } = subject
    const to = await subject.newFolder()
    const paths = Array.from({ length: many }, (_, index) => `${index % 7}/${index}`)
    await Promise.all(paths.map((path) => subject.write(path, path)))
    assert.equal((await cloneInto(subject, backend, to)).files ?? many, many)
    assert.deepEqual(await subject.keys({ recursive: true }, to), await subject.keys())
  },

  'one that was aborted is continued': async (subject, backend) => {
    const to = await subject.newFolder()
    await makeTree(subject)
    await assert.rejects(cloneInto(subject, backend, to, { signal: AbortSignal.abort() }))
    const controller = new AbortController()
    const checkpoints: unknown[] = []
    const stopped = cloneInto(subject, backend, to, {
      signal: controller.signal,
      onCheckpoint: (checkpoint) => {
        checkpoints.push(JSON.parse(JSON.stringify(checkpoint)))
        controller.abort()
      },
    })
    await stopped.catch((error) => assert.ok(controller.signal.aborted, error))
    const cloned = await cloneInto(subject, backend, to, { checkpoint: checkpoints.at(-1) })
    assertCounted(cloned, { files: 3, bytes: 9 * MiB + 7 })
    await assertSameTree(subject, to)
  },
}

export const count: CasesWith<'count'> = {
  'it counts files and their bytes, as a listing would': async (subject, backend) => {
    assert.deepEqual(await backend.count(subject.folder, call), { files: 0, bytes: 0 })
    await makeTree(subject)
    assert.deepEqual(await backend.count(subject.folder, call), { files: 3, bytes: 9 * MiB + 7 })
    await subject.write('dir/small', 'longer now')
    await backend.remove(subject.folder, parsePath('large'), call)
    assert.deepEqual(await backend.count(subject.folder, call), amountOf(await subject.entries({ recursive: true })))
  },

  'an upload does not count before it is a file': async (subject, backend) => {
    const upload = crypto.randomUUID()
    const { folder } = subject
    await backend.beginUpload(folder, upload, call)
    const source = (async function* () {
      yield sharedPattern(6 * MiB)
    })()
    await backend.appendUpload(folder, upload, source, { ...call, offset: 0 })
    assert.deepEqual(await backend.count(folder, call), { files: 0, bytes: 0 })
    await backend.completeUpload(folder, upload, parsePath('file'), { ...call, size: 6 * MiB })
    assert.deepEqual(await backend.count(folder, call), { files: 1, bytes: 6 * MiB })
  },

  'an aborted count rejects': async (subject, backend) => {
    await subject.write('file', 'content')
    await assert.rejects(backend.count(subject.folder, { signal: AbortSignal.abort() }))
  },
}

export const capacity: CasesWith<'capacity'> = {
  'it is told in bytes': async (_subject, backend) => {
    const { totalBytes, availableBytes } = await backend.capacity(call)
    for (const bytes of [totalBytes, availableBytes]) assert.ok(Number.isInteger(bytes) && bytes >= 0)
    assert.ok(totalBytes > 0 && availableBytes <= totalBytes)
  },
}

const presented = { ...call, expiresInSeconds: 60, contentType: 'text/plain', contentDisposition: 'attachment' }

export const presign: CasesWith<'presign'> = {
  'a file is read from the storage itself, as it is to be presented': async (subject, backend) => {
    const bytes = sharedPattern(9 * MiB)
    await subject.write('a b/ü+&?#%', bytes)
    const url = await backend.presign(subject.folder, parsePath('a b/ü+&?#%'), presented)
    const response = await fetch(url)
    assert.equal(response.status, 200)
    assert.equal(response.headers.get('content-type'), 'text/plain')
    assert.equal(response.headers.get('content-disposition'), 'attachment')
    assert.equal(digest(Buffer.from(await response.arrayBuffer())), digest(bytes))
    const part = await fetch(url, { headers: { range: 'bytes=5-9' } })
    assert.equal(part.status, 206)
    assert.equal(digest(Buffer.from(await part.arrayBuffer())), digest(bytes.subarray(5, 10)))
  },

  'the URL is for one file, for reading, and for its time': async (subject, backend) => {
    for (const path of ['file', 'other']) await subject.write(path, path)
    const url = await backend.presign(subject.folder, parsePath('file'), presented)
    const refused = await Promise.all([
      fetch(url.replace('/file', '/other')),
      fetch(url, { method: 'PUT', body: 'content' }),
      fetch(url, { method: 'DELETE' }),
    ])
    assert.deepEqual(
      refused.map(({ status }) => status >= 400),
      [true, true, true],
    )
    const short = await backend.presign(subject.folder, parsePath('file'), { ...presented, expiresInSeconds: 1 })
    await sleep(2500)
    assert.ok((await fetch(short)).status >= 400, 'it has expired')
    assert.equal(await subject.text('file'), 'file')
  },
}

export const presignUpload: CasesWith<'presignUpload'> = {
  'a client sends the parts, in any order, and each with exactly its bytes': async (subject, backend) => {
    const { folder } = subject
    for (const size of [0, 1, 17 * MiB + 1]) {
      const upload = crypto.randomUUID()
      const bytes = sharedPattern(size)
      await backend.beginUpload(folder, upload, call)
      const parts = await backend.presignUpload(folder, upload, { ...call, size, expiresInSeconds: 60 })
      assert.equal(parts.at(-1)?.end ?? 0, size)
      const send = (url: string, body: Buffer) => fetch(url, { method: 'PUT', body: new Uint8Array(body) })
      for (const { url, start, end } of parts.toReversed()) {
        assert.ok((await send(url, bytes.subarray(start, end - 1))).status >= 400, 'a byte less')
        assert.ok((await send(url, bytes.subarray(start, end))).ok)
      }
      const staged = await backend.readUpload(folder, upload, call)
      assert.equal(staged.entry.size, size)
      assert.equal(digest(await readRange(staged, { start: 0, end: size })), digest(bytes))
      staged.close()
      await backend.completeUpload(folder, upload, parsePath(`file ${size}`), { ...call, size })
      assert.equal(digest(await subject.bytes(`file ${size}`)), digest(bytes))
    }
  },

  'what is missing is told by the size': async (subject, backend) => {
    const upload = crypto.randomUUID()
    const { folder } = subject
    await backend.beginUpload(folder, upload, call)
    const parts = await backend.presignUpload(folder, upload, { ...call, size: 17 * MiB, expiresInSeconds: 60 })
    const last = parts.at(-1)
    assert.ok(last !== undefined)
    await fetch(last.url, { method: 'PUT', body: new Uint8Array(last.end - last.start) })
    const staged = await backend.readUpload(folder, upload, call)
    assert.ok(staged.entry.size < 17 * MiB)
    staged.close()
    await backend.abortUpload(folder, upload, call)
  },
}

export const mount: CasesWith<'mount'> = {
  'an entry is below its vfolder, and a vfolder is a place of its own': async (subject, backend) => {
    const place = async (folder: string, path?: string) => {
      const point = await backend.mount(folder, path === undefined ? undefined : parsePath(path))
      return point.type === 'path' ? point.path : `${point.bucket}/${point.prefix}`.replace(/\/$/, '')
    }
    const whole = await place(subject.folder)
    assert.notEqual(whole, '')
    assert.equal(await place(subject.folder, 'dir/file'), `${whole}/dir/file`)
    const other = await place(await subject.newFolder())
    assert.ok(!`${other}/`.startsWith(`${whole}/`) && !`${whole}/`.startsWith(`${other}/`))
  },
}

/** Three files of 9 MiB and 7 bytes, and directories of which one is empty. */
async function makeTree(subject: Subject): Promise<void> {
  const modifiedAt = new Date('2001-02-03T04:05:06Z')
  await subject.write('large', sharedPattern(9 * MiB), { mode: 0o600 })
  await subject.write('dir/small', 'content', { modifiedAt })
  await subject.write('dir/sub/한글 😀.txt', '')
  await subject.backend.mkdir(subject.folder, parsePath('empty'), call)
}

async function cloneInto(subject: Subject, backend: Capable<'clone'>, to: string, more: Partial<CloneOptions> = {}) {
  const checkpoints: unknown[] = []
  const onCheckpoint = (checkpoint: unknown) => {
    checkpoints.push(checkpoint)
  }
  const options = { ...call, onProgress() {}, onCheckpoint, ...more }
  return { ...(await backend.clone(subject.folder, to, options)), checkpoints }
}

/** A storage that copies in one step counts nothing. */
function assertCounted({ files, bytes }: { files?: number | undefined; bytes?: number | undefined }, expected: Amount) {
  if (files !== undefined || bytes !== undefined) assert.deepEqual({ files, bytes }, expected)
}

/** Modes and modification times too, where the storage keeps what `write` was given. */
async function assertSameTree(subject: Subject, to: string): Promise<void> {
  const source = await subject.entries({ recursive: true })
  const copied = await subject.entries({ recursive: true }, to)
  assert.deepEqual(copied.map(orderKey), source.map(orderKey))
  const kept = source.find(({ path }) => path === 'dir/small')?.modifiedAt.getFullYear() === 2001
  for (const [index, entry] of source.entries()) {
    const other = copied[index]
    assert.deepEqual([other?.size, other?.mode, other?.target], [entry.size, entry.mode, entry.target], entry.path)
    if (entry.type !== 'file') continue
    if (kept) assert.equal(other?.modifiedAt.getTime(), entry.modifiedAt.getTime(), entry.path)
    assert.equal(digest(await subject.bytes(entry.path, to)), digest(await subject.bytes(entry.path)), entry.path)
  }
}

function amountOf(entries: Entry[]): Amount {
  const counted = entries.filter(({ type }) => type !== 'directory')
  const files = counted.filter(({ type }) => type === 'file')
  return { files: counted.length, bytes: files.reduce((bytes, { size }) => bytes + size, 0) }
}
